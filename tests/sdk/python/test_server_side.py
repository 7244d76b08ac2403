"""Subscriptions the server makes, with centrifuge-python: by token, for every user, by the server API; and after a break."""

import time

import pytest
from harness import Peer, Proxy, Server, until
from tokens import SECRET, token


@pytest.fixture(scope="module")
def keyed():
    personal = {"enabled": True, "personal_channel_namespace": "mine"}
    client = {
        "token": {"hmac_secret_key": SECRET},
        "subscribe_to_user_personal_channel": personal,
        "expired_sub_close_delay": "100ms",
    }
    running = Server(client, {"mine": {"allow_user_limited_channels": True}, "loud": {"force_push_join_leave": True}})
    yield running
    running.stop()


@pytest.fixture(params=[False, True], ids=["json", "protobuf"])
def protobuf(request):
    return request.param


async def test_of_the_token_with_joins_and_leaves(keyed, channel, protobuf):
    name = channel("loud")
    claims = {"sub": "42", "subs": {name: {"info": {"ci": 1}, "data": {"hello": 1}}}}
    one = await Peer(keyed.ws, protobuf, token=token(claims)).connect()
    context = await until(lambda: one.server_subs.get(name), "subscribed")
    assert context[0].recoverable and context[0].positioned and not context[0].was_recovering
    assert one.unpack(context[0].data) == {"hello": 1}
    other = await Peer(keyed.ws, protobuf, token=token({"sub": "43", "channels": [name]})).connect()
    # Its own join comes with the reply to connect, and this SDK may look at it too early.
    await until(lambda: (name, other.id) in one.server_joined, "the other joined")
    await other.client.disconnect()
    await until(lambda: one.server_left == [(name, other.id)], "the other left")
    for n in range(20):
        await keyed.publish(name, {"n": n})
    await until(lambda: len(one.heard) == 20, "publications")
    assert one.heard == [(name, {"n": n}) for n in range(20)]
    await one.client.disconnect()


async def test_everybody_has_a_channel(keyed, channel, protobuf):
    user = channel("u").replace(":", "-")
    one = await Peer(keyed.ws, protobuf, token=token({"sub": user})).connect()
    name = f"mine:#{user}"
    await until(lambda: name in one.server_subs, "its own channel")
    await keyed.publish(name, "for you")
    await until(lambda: one.heard == [(name, "for you")], "publication")
    await one.client.disconnect()


async def test_by_the_server_api(keyed, channel, protobuf):
    name, missed = channel(), channel()
    one = await Peer(keyed.ws, protobuf, token=token({"sub": "api"})).connect()
    whom = {"user": "api", "client": one.id}
    for n in range(3):
        position = await keyed.publish(missed, n)
    await keyed.api("subscribe", {**whom, "channel": name, "data": {"hello": 1}})
    context = await until(lambda: one.server_subs.get(name), "subscribed")
    assert one.unpack(context[0].data) == {"hello": 1}
    since = {"offset": 1, "epoch": position["epoch"]}
    await keyed.api("subscribe", {**whom, "channel": missed, "recover_since": since})
    await until(lambda: len(one.heard) == 2, "what was missed")
    await keyed.publish(name, "live")
    await until(lambda: len(one.heard) == 3, "publication")
    assert one.heard == [(missed, 1), (missed, 2), (name, "live")]
    await keyed.api("unsubscribe", {**whom, "channel": name})
    await until(lambda: one.server_unsubscribed == [name], "unsubscribed")
    await one.client.disconnect()


async def test_one_that_runs_out_brings_the_client_back(keyed, channel, protobuf):
    one = await Peer(keyed.ws, protobuf, token=token({"sub": "late"})).connect()
    soon = {"user": "late", "client": one.id, "channel": channel(), "expire_at": int(time.time()) + 2}
    await keyed.api("subscribe", soon)
    await until(lambda: any(ctx.code == 3006 for ctx in one.connecting), "subscription expired")
    assert not one.disconnected
    await one.client.disconnect()


async def test_what_was_missed_comes_after_a_break(keyed, channel, protobuf):
    proxy = await Proxy.start(keyed.port)
    names = [channel(), channel()]
    one = await Peer(proxy.ws, protobuf, token=token({"sub": "42", "channels": names})).connect()
    await until(lambda: all(name in one.server_subs for name in names), "subscribed")
    for n in range(1, 31):
        for name in names:
            await keyed.publish(name, n)
        if n == 10:
            proxy.cut()
        if n == 25:
            await until(lambda: proxy.refused, "a reconnect was refused")
            proxy.mend()
    await until(lambda: len(one.heard) == 60, "everything")
    for name in names:
        assert [data for heard, data in one.heard if heard == name] == list(range(1, 31))
        last = one.server_subs[name][-1]
        assert last.was_recovering and last.recovered
    await one.client.disconnect()
    await proxy.stop()
