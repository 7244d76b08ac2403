"""Who is let in as whom, into which channels and with what, with centrifuge-python; and versions of publications."""

import asyncio
import time

import pytest
from centrifuge import CentrifugeError
from harness import Peer, Server, until
from tokens import SECRET, token

OLD, SUBSCRIPTIONS = "the secret before", "a secret of subscriptions"
CLIENT = {
    "allow_anonymous_connect_without_token": True,
    "disallow_anonymous_connection_tokens": True,
    "user_id_http_header": "X-User-Id",
    "token": {
        "hmac_secret_key": SECRET,
        "hmac_previous_secret_key": OLD,
        "hmac_previous_secret_key_valid_until": int(time.time()) + 3600,
    },
    "subscription_token": {"enabled": True, "hmac_secret_key": SUBSCRIPTIONS},
}
FORMATS = {"json": "json", "object": "json_object", "binary": "binary"}


@pytest.fixture(scope="module")
def doors():
    running = Server(
        CLIENT,
        {
            "listed": {"allow_subscribe_for_client": False, "allow_user_limited_channels": True},
            "named": {"channel_regex": r"^\p{L}+-[-a-z0-9]+$"},
            **{name: {"publication_data_format": value} for name, value in FORMATS.items()},
        },
    )
    yield running
    running.stop()


@pytest.fixture(params=[False, True], ids=["json", "protobuf"])
def protobuf(request):
    return request.param


@pytest.fixture
def peer(doors, protobuf):
    return lambda **more: Peer(doors.ws, protobuf, **more)


@pytest.fixture
def user(channel):
    """A name that no other test uses."""
    return lambda: channel("user").replace(":", "-")


def of(user, secret=SECRET, **claims):
    return {"token": token({"sub": user, **claims}, secret=secret)}


async def refused(one):
    """The code a client is kept out with for good."""
    await one.client.connect()
    return (await until(lambda: one.disconnected, "refused"))[0].code


async def user_of(one, name):
    """Who the client is to others."""
    room = await one.join(name)
    await one.publish(name, 1)
    await until(lambda: room.publications, "its own publication")
    return room.publications[0].info.user


async def test_a_header_names_the_user_and_a_token_wins(peer, user, channel):
    by_header, by_token = user(), user()
    one = await peer(headers={"X-User-Id": by_header}).connect()
    assert await user_of(one, channel()) == by_header
    both = await peer(headers={"X-User-Id": by_header}, **of(by_token)).connect()
    assert await user_of(both, channel()) == by_token
    for it in (one, both):
        await it.client.disconnect()


async def test_secrets_of_connections_and_of_subscriptions(peer, user, channel):
    name, mine = "$" + channel(), user()
    assert await refused(peer(**of(mine, SUBSCRIPTIONS))) == 3500
    assert await refused(peer(**of(""))) == 3507
    one = await peer(**of(mine, OLD)).connect()
    claims = {"sub": mine, "channel": name, "info": {"role": "admin"}}
    wrong = await one.join(name, token=token(claims))
    assert [ctx.code for ctx in wrong.unsubscribed] == [103]
    one.client.remove_subscription(wrong.sub)
    room = await one.join(name, token=token(claims, secret=SUBSCRIPTIONS))
    await one.publish(name, 1)
    await until(lambda: room.publications, "its own publication")
    assert one.unpack(room.publications[0].info.chan_info) == {"role": "admin"}
    await one.client.disconnect()


async def test_a_channel_that_lists_its_users(peer, user, channel):
    mine, theirs = user(), user()
    name = f"{channel('listed')}#{mine},{user()}"
    one, other, nobody = await peer(**of(mine)).connect(), await peer(**of(theirs)).connect(), await peer().connect()
    assert (await one.join(name)).subscribed
    for outside in (other, nobody):
        assert [ctx.code for ctx in (await outside.join(name)).unsubscribed] == [103]
    for it in (one, other, nobody):
        await it.client.disconnect()


async def test_names_and_payloads_are_what_the_namespace_takes(peer, channel):
    one = await peer().connect()
    assert (await one.join(channel("named").replace(":", ":größe-"))).subscribed
    for bad in (channel("named").replace(":", ":1-"), "chat:ü"):
        assert [ctx.code for ctx in (await one.join(bad)).unsubscribed] == [107]
    # A payload, and the formats that take it.
    rows = [(one.pack({"a": 1}), FORMATS), (one.pack([1]), ("json", "binary"))]
    if one.protobuf:
        rows += [(b"\xff\x00", ("binary",)), (b'{"a":', ("binary",))]
    for payload, takers in rows:
        for namespace in FORMATS:
            if namespace in takers:
                await one.client.publish(channel(namespace), payload)
            else:
                with pytest.raises(CentrifugeError) as failed:
                    await one.client.publish(channel(namespace), payload)
                assert failed.value.code == 107
    await one.client.disconnect()


async def test_one_connection_of_a_user(protobuf, channel):
    personal = {"enabled": True, "personal_channel_namespace": "chat", "single_connection": True}
    running = Server({**CLIENT, "subscribe_to_user_personal_channel": personal})
    try:
        first = await Peer(running.ws, protobuf, **of("7")).connect()
        other = await Peer(running.ws, protobuf, **of("8")).connect()
        second = await Peer(running.ws, protobuf, **of("7")).connect()
        await until(lambda: first.disconnected, "the first ends")
        assert (first.disconnected[0].code, first.disconnected[0].reason) == (3504, "connection limit")
        assert (await user_of(second, channel()), await user_of(other, channel())) == ("7", "8")
        for it in (second, other):
            await it.client.disconnect()
    finally:
        await asyncio.to_thread(running.stop)


async def test_the_server_api_ends_whom_it_names(doors, peer, user):
    mine = user()
    one, spared = await peer(**of(mine)).connect(), await peer(**of(mine)).connect()
    await doors.api("disconnect", {"user": mine, "whitelist": [spared.id]})
    await until(lambda: one.disconnected, "the one that is not on the list")
    assert one.disconnected[0].code == 3503
    before = spared.id
    await doors.api("refresh", {"user": mine, "expired": True})
    await until(lambda: spared.id != before, "ended, and back")
    assert [ctx.code for ctx in spared.connecting][1:] == [3005] and not spared.disconnected
    await spared.client.disconnect()


async def test_only_what_has_a_newer_version_is_published(doors, peer, channel):
    name = channel()
    one = await peer().connect()
    room = await one.join(name)
    for n, (version, epoch) in enumerate([(5, ""), (5, ""), (4, ""), (6, ""), (1, "b"), (1, "b"), (2, "b")]):
        await doors.api("publish", {"channel": name, "data": n, "version": version, "version_epoch": epoch})
    await doors.publish(name, "last")
    await until(lambda: room.data[-1:] == ["last"], "everything")
    assert room.data == [0, 3, 4, 6, "last"]
    assert [it.offset for it in room.publications] == [1, 2, 3, 4, 5]
    await one.client.disconnect()
