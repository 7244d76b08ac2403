"""What an application does with centrifuge-python, in JSON and in Protobuf."""

import asyncio

import pytest
from centrifuge import CentrifugeError
from centrifuge.exceptions import ReplyError
from centrifuge.types import StreamPosition
from harness import Peer, Server, until


async def test_connect_gives_a_client_id(peer):
    one, other = await peer(), await peer()
    assert len(one.id) == 36 and one.id != other.id


async def test_publication_exact_in_order_with_info(server, peer, channel):
    name = channel()
    alice, bob = await peer(), await peer()
    hers, his = await alice.join(name), await bob.join(name)
    sent = [
        {"text": "Grüße, 世界 🎉"},
        [1, -2.5, 1e21, True, None],
        'a "quoted" \\ string\nwith lines\tand </script>',
        {"nested": {"deep": [{}, [], ""]}},
        0,
        *({"n": n} for n in range(50)),
    ]
    for value in sent:
        await alice.publish(name, value)
    await until(lambda: len(his.data) == len(sent) == len(hers.data), "all publications")
    assert his.data == sent
    assert hers.data == sent
    assert [p.offset for p in his.publications] == list(range(1, len(sent) + 1))
    assert {p.info.client for p in his.publications} == {alice.id}


async def test_http_publication(server, peer, channel):
    name = channel()
    room = await (await peer()).join(name)
    await server.publish(name, {"by": "http"})
    await until(lambda: room.data, "publication")
    assert room.data == [{"by": "http"}]
    assert room.publications[0].info is None


async def test_presence(peer, channel):
    name = channel()
    members = [await peer() for _ in range(3)]
    rooms = [await member.join(name) for member in members]
    presence = await rooms[0].sub.presence()
    assert set(presence.clients) == {member.id for member in members}
    stats = await rooms[0].sub.presence_stats()
    assert (stats.num_clients, stats.num_users) == (3, 1)


async def test_join_and_leave(peer, channel):
    name = channel()
    alice, bob, carol = await peer(), await peer(), await peer()
    room = await alice.join(name, join_leave=True)
    his = await bob.join(name)
    await carol.join(name)
    await until(lambda: len(room.joined) == 3, "three joins")
    assert room.joined == [alice.id, bob.id, carol.id]
    await his.sub.unsubscribe()
    await until(lambda: len(room.left) == 1, "leave after unsubscribe")
    await carol.client.disconnect()
    await until(lambda: len(room.left) == 2, "leave after disconnect")
    assert room.left == [bob.id, carol.id]


async def test_history(peer, channel):
    name = channel()
    one = await peer()
    room = await one.join(name)
    for n in range(1, 11):
        await one.publish(name, {"n": n})

    async def read(**options):
        result = await room.sub.history(**options)
        assert result.offset == 10
        assert all(one.unpack(p.data)["n"] == p.offset for p in result.publications)
        return [p.offset for p in result.publications], result.epoch

    offsets, epoch = await read(limit=0)
    assert offsets == []
    assert (await read(limit=-1))[0] == list(range(1, 11))
    assert (await read(limit=3))[0] == [1, 2, 3]
    assert (await read(limit=50, since=StreamPosition(7, epoch)))[0] == [8, 9, 10]
    assert (await read(limit=3, reverse=True))[0] == [10, 9, 8]
    assert (await read(limit=3, reverse=True, since=StreamPosition(5, epoch)))[0] == [4, 3, 2]
    with pytest.raises(ReplyError) as failed:
        await room.sub.history(limit=1, since=StreamPosition(1, "other"))
    assert failed.value.code == 112


async def test_unsubscribed_hears_nothing_more(server, peer, channel):
    name = channel()
    one = await peer()
    room = await one.join(name)
    await server.publish(name, 1)
    await until(lambda: room.data == [1], "first publication")
    await room.sub.unsubscribe()

    async def nobody():
        return (await server.api("presence_stats", {"channel": name}))["num_clients"] == 0

    await until(nobody, "unsubscribed on the server")
    await server.publish(name, 2)
    stats = await one.client.presence_stats(name)
    assert stats.num_clients == 0
    assert room.data == [1]


async def test_rpc_is_not_available(peer, channel):
    one = await peer()
    with pytest.raises(ReplyError) as failed:
        await one.client.rpc("anything", one.pack({}))
    assert failed.value.code == 108
    assert (await one.client.presence_stats(channel())).num_clients == 0


@pytest.mark.parametrize(
    ("name", "code"),
    [("nowhere:x", 102), ("locked:x", 103), ("$chat:x", 103), ("chat:".ljust(256, "x"), 107), ("chat:ü", 107)],
)
async def test_subscribe_errors(peer, name, code):
    one = await peer()
    room = await one.join(name)
    assert [ctx.code for ctx in room.unsubscribed] == [code]
    assert len(one.connecting) == 1


@pytest.mark.parametrize(("name", "code"), [("nowhere:x", 102), ("plain:x", 103)])
async def test_publish_errors(peer, name, code):
    one = await peer()
    with pytest.raises(CentrifugeError) as failed:
        await one.publish(name, {})
    assert failed.value.code == code


async def test_disconnect_by_the_server(server, peer):
    one = await peer()
    await server.api("disconnect", {"user": "", "client": one.id, "disconnect": {"code": 4501, "reason": "bye"}})
    await until(lambda: one.disconnected, "disconnected")
    assert (one.disconnected[0].code, one.disconnected[0].reason) == (4501, "bye")


async def test_many_channels(server, peer, channel):
    one = await peer()
    names = [channel() for _ in range(40)]
    rooms = await asyncio.gather(*(one.join(name) for name in names))
    for n in range(3):
        await server.api("broadcast", {"channels": names, "data": {"n": n}})
    await until(lambda: all(len(room.data) == 3 for room in rooms), "three publications in each channel")
    assert all(room.data == [{"n": 0}, {"n": 1}, {"n": 2}] for room in rooms)


async def test_recovers_exactly_what_was_missed(server, proxy, peer, channel):
    name = channel()
    one = await peer(proxy.ws)
    room = await one.join(name)
    for n in range(1, 46):
        await server.publish(name, {"n": n})
        if n == 15:
            proxy.cut()
        if n == 35:
            await until(lambda: proxy.refused, "a reconnect was refused")
            proxy.mend()
    await until(lambda: len(room.data) >= 45, "everything")
    assert [d["n"] for d in room.data] == list(range(1, 46))
    assert [p.offset for p in room.publications] == list(range(1, 46))
    assert len(room.subscribed) == 2
    assert room.subscribed[1].was_recovering and room.subscribed[1].recovered
    await server.publish(name, {"n": 46})
    await until(lambda: len(room.data) == 46, "live again")


async def test_more_missed_than_kept_is_told(server, proxy, peer, channel):
    name = channel("small")
    one = await peer(proxy.ws)
    room = await one.join(name)
    await server.publish(name, 1)
    await until(lambda: room.data == [1], "first")
    proxy.cut()
    for n in range(2, 11):
        await server.publish(name, n)
    proxy.mend()
    await until(lambda: len(room.subscribed) == 2, "subscribed again")
    assert room.subscribed[1].was_recovering and not room.subscribed[1].recovered
    await server.publish(name, 11)
    await until(lambda: len(room.data) == 2, "live again")
    assert room.data == [1, 11]


async def test_pings_keep_a_connection_and_the_end_of_the_server_is_told():
    running = Server({"allow_anonymous_connect_without_token": True, "ping_interval": "1s", "pong_timeout": "500ms"})
    peers = [await Peer(running.ws, protobuf).connect() for protobuf in (False, True)]
    # Some intervals: who answers no ping is cut within one.
    await asyncio.sleep(2.5)
    for one in peers:
        assert (await one.client.presence_stats("chat:x")).num_clients == 0
        assert len(one.connecting) == 1
    stopping = asyncio.create_task(asyncio.to_thread(running.stop))
    await until(lambda: all(one.connecting[-1].code == 3001 for one in peers), "told that the server ends")
    for one in peers:
        await one.client.disconnect()
    await stopping
