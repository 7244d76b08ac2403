"""Tokens with centrifuge-python: connecting, refresh of connections and subscriptions, refusals."""

import itertools
import time

import pytest
from harness import Peer, Server, until
from tokens import SECRET, token

_numbers = itertools.count(1)


def unique():
    return f"py-{next(_numbers)}"


@pytest.fixture(scope="module")
def keyed():
    delays = {"expired_close_delay": "1s", "expired_sub_close_delay": "1s"}
    running = Server({"token": {"hmac_secret_key": SECRET}, **delays})
    yield running
    running.stop()


@pytest.fixture(params=[False, True], ids=["json", "protobuf"])
def peer(request, keyed):
    return lambda **more: Peer(keyed.ws, request.param, **more)


async def test_user_and_info(peer, channel):
    one = await peer(token=token({"sub": "42", "info": {"name": "Ann"}})).connect()
    name = channel()
    room = await one.join(name)
    await one.publish(name, 1)
    await until(lambda: room.publications, "publication")
    info = room.publications[0].info
    assert (info.user, one.unpack(info.conn_info)) == ("42", {"name": "Ann"})
    await one.client.disconnect()


async def test_expired_and_short_tokens_are_refreshed(peer):
    calls = []

    async def get_token():
        calls.append(1)
        return token({"sub": "42"}, 1)

    one = await peer(token=token({"sub": "42"}, -10), get_token=get_token).connect()
    connects = len(one.connecting)
    await until(lambda: len(calls) >= 3, "refreshes")
    assert len(one.connecting) == connects and not one.disconnected
    await one.client.disconnect()


async def test_an_invalid_token_ends_it(peer):
    one = peer(token=token({"sub": "42"}, secret="other"))
    await one.client.connect()
    await until(lambda: one.disconnected, "disconnected")
    assert one.disconnected[0].code == 3500 and len(one.connecting) == 1


async def test_a_private_channel(peer, channel):
    name = "$" + channel()
    calls = []

    async def get_token(asked):
        calls.append(asked)
        return token({"sub": "42", "channel": asked}, 1)

    one = await peer(token=token({"sub": "42"})).connect()
    room = await one.join(name, token=token({"sub": "42", "channel": name}, 1), get_token=get_token)
    await until(lambda: len(calls) >= 2, "refreshes of the subscription")
    assert set(calls) == {name} and len(room.subscribed) == 1 and not room.unsubscribed
    refused = await one.join(name + "x")
    assert not refused.subscribed and refused.unsubscribed[0].code == 103
    await one.client.disconnect()


async def test_a_token_not_refreshed_ends_the_connection_and_a_new_one_brings_it_back(peer):
    slow = True

    async def get_token():
        if slow:
            raise RuntimeError("the backend is down")
        return token({"sub": "42"})

    one = await peer(token=token({"sub": "42"}, 1), get_token=get_token).connect()
    await until(lambda: any(ctx.code == 3005 for ctx in one.connecting), "connection expired")
    slow, before = False, one.id
    await until(lambda: one.id != before, "back")
    assert not one.disconnected
    await one.client.disconnect()


async def test_a_subscription_not_refreshed_ends_and_comes_back(peer, channel):
    name = "$" + channel()
    slow = True

    async def get_token(asked):
        if slow:
            raise RuntimeError("the backend is down")
        return token({"sub": "42", "channel": asked})

    one = await peer(token=token({"sub": "42"})).connect()
    room = await one.join(name, token=token({"sub": "42", "channel": name}, 1), get_token=get_token)
    await until(lambda: 2501 in [ctx.code for ctx in room.subscribing], "subscription expired")
    slow = False
    await until(lambda: len(room.subscribed) == 2, "back")
    assert len(one.connecting) == 1 and not room.unsubscribed
    await one.client.disconnect()


async def test_what_does_not_open_a_private_channel(peer, channel):
    name = "$" + channel()
    one = await peer(token=token({"sub": "42"})).connect()
    for bad in ("bad", token({"sub": "42", "channel": name}, secret="other")):
        refused = await one.join(name, token=bad)
        assert [ctx.code for ctx in refused.unsubscribed] == [103]
        one.client.remove_subscription(refused.sub)
    for claims in ({"sub": "43", "channel": name}, {"sub": "42", "channel": name + "x"}):
        other = await peer(token=token({"sub": "42"})).connect()
        sub = other.client.new_subscription(name, token=token(claims))
        await sub.subscribe()
        await until(lambda: other.disconnected, "disconnected")
        assert other.disconnected[0].code == 3500
    await one.client.disconnect()


async def test_info_of_the_channel(peer, channel):
    name = "$" + channel()
    one = await peer(token=token({"sub": "42", "info": {"n": 1}})).connect()
    data = token({"sub": "42", "channel": name, "info": {"role": "admin"}, "data": {"hello": 1}})
    room = await one.join(name, token=data)
    assert one.unpack(room.subscribed[0].data) == {"hello": 1}
    await one.publish(name, 1)
    await until(lambda: room.publications, "publication")
    presence = await room.sub.presence()
    for info in (room.publications[0].info, presence.clients[one.id]):
        assert (one.unpack(info.conn_info), one.unpack(info.chan_info)) == ({"n": 1}, {"role": "admin"})
    await one.client.disconnect()


async def test_revoked_and_blocked(peer, keyed):
    jti, user = unique(), unique()
    revoked = await peer(token=token({"sub": user, "jti": jti})).connect()
    blocked = await peer(token=token({"sub": user, "jti": unique()})).connect()
    await keyed.api("revoke_token", {"uid": jti})
    await until(lambda: revoked.disconnected, "the token revoked")
    assert revoked.disconnected[0].code == 3500 and not blocked.disconnected
    await keyed.api("block_user", {"user": user})
    await until(lambda: blocked.disconnected, "the user blocked")
    assert blocked.disconnected[0].code == 3507


async def test_a_subscription_whose_token_was_invalidated_asks_for_another(peer, keyed, channel):
    name, user, asked = "$" + channel(), unique(), []

    async def get_token(_):
        asked.append(1)
        return token({"sub": user, "channel": name, "iat": int(time.time()) - (60 if len(asked) == 1 else 0)})

    one = await peer(token=token({"sub": user})).connect()
    room = await one.join(name, get_token=get_token)
    before = int(time.time()) - 10
    await keyed.api("invalidate_user_tokens", {"user": user, "channel": name, "issued_before": before})
    await until(lambda: len(room.subscribed) == 2, "subscribed anew")
    assert len(asked) == 2 and 2502 in [ctx.code for ctx in room.subscribing]
    await keyed.publish(name, {"n": 1})
    await until(lambda: room.data == [{"n": 1}], "and served")
    await one.client.disconnect()


async def test_capabilities_allow_what_options_do_not(peer):
    caps = [{"channels": ["locked:*"], "match": "wildcard", "allow": ["sub", "pub", "prs"]}]
    one = await peer(token=token({"sub": "42", "caps": caps})).connect()
    name = f"locked:{unique()}"
    room = await one.join(name)
    await one.publish(name, {"n": 1})
    await until(lambda: room.data == [{"n": 1}], "publication")
    other = await peer(token=token({"sub": "42"})).connect()
    assert [ctx.code for ctx in (await other.join(name)).unsubscribed] == [103]
    for it in (one, other):
        await it.client.disconnect()
