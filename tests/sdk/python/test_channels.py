"""What namespaces allow and forbid, with centrifuge-python: positions, wildcards, conflation, limits, deltas and filters."""

import contextlib

import pytest
from centrifuge import CentrifugeError, DeltaType, Filter
from centrifuge.exceptions import ReplyError
from harness import Peer, Proxy, Room, Server, until

DELTA = {"allowed_delta_types": ["fossil"], "delta_publish": True}
TEXT = "the same again and again, and again, and once more"


@pytest.fixture(scope="module")
def options():
    running = Server(
        namespaces={
            "wild": {"allow_wildcards": True},
            "slow": {**DELTA, "conflation_interval": "300ms"},
            "quiet": {**DELTA, "no_echo": True},
            "delta": DELTA,
            "asked": {"allowed_delta_types": ["fossil"]},
            "filter": {"allow_tags_filter": True},
        }
    )
    yield running
    running.stop()


@pytest.fixture(params=[False, True], ids=["json", "protobuf"])
def protobuf(request):
    return request.param


async def test_subscribed_tells_where_it_stands(options, channel, protobuf):
    name = channel()
    position = [await options.publish(name, n) for n in range(3)][-1]
    one = await Peer(options.ws, protobuf).connect()
    context = (await one.join(name)).subscribed[0]
    assert context.recoverable and context.positioned and not context.was_recovering
    assert (context.stream_position.offset, context.stream_position.epoch) == (3, position["epoch"])
    plain = (await one.join(channel("plain"))).subscribed[0]
    assert not plain.recoverable and not plain.positioned and plain.stream_position is None
    await one.client.disconnect()


async def test_history_keeps_the_newest_of_its_size(options, channel, protobuf):
    name = channel("small")
    for n in range(1, 11):
        await options.publish(name, n)
    one = await Peer(options.ws, protobuf).connect()
    result = await one.client.history(name, limit=-1)
    assert [p.offset for p in result.publications] == [8, 9, 10] and result.offset == 10
    await one.client.disconnect()


async def test_what_is_off_is_not_available(options, protobuf):
    one = await Peer(options.ws, protobuf).connect()
    for ask in (one.client.presence, one.client.presence_stats, one.client.history):
        with pytest.raises(ReplyError) as failed:
            await ask("plain:x")
        assert failed.value.code == 108
    await one.client.disconnect()


async def test_no_joins_unless_asked_for(options, channel, protobuf):
    name = channel()
    one, other = [await Peer(options.ws, protobuf).connect() for _ in range(2)]
    room = await one.join(name)
    his = await other.join(name)
    await his.sub.unsubscribe()
    await options.publish(name, 1)
    await until(lambda: room.data == [1], "publication")
    assert not room.joined and not room.left
    for it in (one, other):
        await it.client.disconnect()


async def test_a_code_that_allows_coming_back(options, channel, protobuf):
    one = await Peer(options.ws, protobuf).connect()
    room = await one.join(channel())
    before = one.id
    await options.api("disconnect", {"user": "", "client": before, "disconnect": {"code": 4000, "reason": "again"}})
    await until(lambda: len(room.subscribed) == 2, "back, and subscribed")
    assert one.id != before and one.connecting[-1].code == 4000 and not one.disconnected
    await one.client.disconnect()


async def test_both_encodings_read_each_other(options, channel):
    name = channel()
    peers = [await Peer(options.ws, protobuf).connect() for protobuf in (False, True)]
    rooms = [await one.join(name) for one in peers]
    sent = [{"n": n, "text": "ü\n😀"} for n in range(10)]
    for value in sent:
        await peers[value["n"] % 2].publish(name, value)
    await until(lambda: all(len(room.data) == 10 for room in rooms), "everything for both")
    assert [room.data for room in rooms] == [sent, sent]
    for one in peers:
        await one.client.disconnect()


async def test_bytes_reach_who_can_read_them(options, channel):
    class Raw(Room):
        async def on_publication(self, ctx):
            self.data.append(ctx.pub.data)

    name, rooms, peers = channel(), [], []
    for protobuf in (False, True):
        one = await Peer(options.ws, protobuf).connect()
        room = Raw(one)
        await one.client.new_subscription(name, events=room).subscribe()
        await until(lambda room=room: room.subscribed, "subscribed")
        peers.append(one)
        rooms.append(room)
    await options.api("publish", {"channel": name, "b64data": "AP8="})
    await options.publish(name, 1)
    await until(lambda: [len(room.data) for room in rooms] == [1, 2], "what each can read")
    assert [room.data for room in rooms] == [[1], [b"\x00\xff", b"1"]]
    for one in peers:
        assert not one.disconnected and len(one.connecting) == 1
        await one.client.disconnect()


async def test_a_pattern_hears_its_channels(options, channel, protobuf):
    name = channel("wild")
    one = await Peer(options.ws, protobuf).connect()
    room = await one.join(f"{name}.*")
    for n, behind in enumerate([".a", "", ".b", ".b.c"]):
        await options.publish(name + behind, n)
    await options.publish(f"{name}.end", "end")
    await until(lambda: "end" in room.data, "the last")
    assert room.data == [0, 2, "end"]
    assert [it.tags["channel"] for it in room.publications] == [f"{name}.{it}" for it in ("a", "b", "end")]
    await one.client.disconnect()


@pytest.mark.parametrize("delta", [None, DeltaType.FOSSIL])
async def test_the_newest_in_every_interval(options, channel, protobuf, delta):
    name = channel("slow")
    one = await Peer(options.ws, protobuf).connect()
    room = await one.join(name, delta=delta)
    for n in range(60):
        await options.publish(name, {"n": n, "text": TEXT})
    await until(lambda: room.data and room.data[-1]["n"] == 59, "the newest")
    numbers = [data["n"] for data in room.data]
    assert len(numbers) < 60 and numbers == sorted(set(numbers))
    assert all(data["text"] == TEXT for data in room.data) and not room.unsubscribed
    await one.client.disconnect()


async def test_own_publications_do_not_come_back(options, channel, protobuf):
    name = channel("quiet")
    peers = [await Peer(options.ws, protobuf).connect() for _ in range(3)]
    rooms = [await one.join(name, delta=DeltaType.FOSSIL) for one in peers]
    for n in range(30):
        await peers[n % 3].publish(name, {"n": n, "text": TEXT})
    await options.publish(name, {"n": 30, "text": TEXT})
    await until(lambda: all(room.data and room.data[-1]["n"] == 30 for room in rooms), "everything")
    for at, room in enumerate(rooms):
        assert [data["n"] for data in room.data] == [n for n in range(31) if n == 30 or n % 3 != at]
    for one in peers:
        await one.client.disconnect()


async def test_deltas_from_a_second_subscriber_on_and_only_where_allowed(options, channel, protobuf):
    name, asked, never = channel("delta"), channel("asked"), channel()
    peers = [await Peer(options.ws, protobuf).connect() for _ in range(2)]
    rooms = []
    for at, one in enumerate(peers):
        rooms.append(await one.join(name, delta=DeltaType.FOSSIL))
        for n in range(5):
            await peers[0].publish(name, {"n": at * 5 + n, "text": TEXT})
    await until(lambda: [len(room.data) for room in rooms] == [10, 5], "everything")
    for room in rooms:
        assert [data["n"] for data in room.data] == list(range(10))[-len(room.data) :]
        assert [it.delta for it in room.publications].count(False) == 1, "the first is told in full"
    some, none = [await peers[0].join(name, delta=DeltaType.FOSSIL) for name in (asked, never)]
    for n in range(4):
        for to in (asked, never):
            await options.api("publish", {"channel": to, "data": {"n": n, "text": TEXT}, "delta": n % 2 == 1})
    await until(lambda: len(some.data) == len(none.data) == 4, "all four of both")
    assert [it.delta for it in some.publications] == [False, True, False, True]
    assert not any(it.delta for it in none.publications)
    assert [data["n"] for data in some.data] == [data["n"] for data in none.data] == [0, 1, 2, 3]
    for one in peers:
        await one.client.disconnect()


async def test_what_a_filter_wants_is_recovered(options, channel, protobuf):
    name = channel("filter")
    proxy = await Proxy.start(options.port)
    one = await Peer(proxy.ws, protobuf).connect()
    room = await one.join(name, tags_filter=Filter.eq("kind", "odd"))

    async def publish(numbers):
        for n in numbers:
            tags = {"kind": "odd" if n % 2 else "even"}
            await options.api("publish", {"channel": name, "data": n, "tags": tags})

    await publish([1, 2])
    await until(lambda: room.data == [1], "before the cut")
    proxy.cut()
    await publish(range(3, 10))
    proxy.mend()
    await until(lambda: len(room.data) == 5, "what was wanted")
    await publish([10, 11])
    await until(lambda: len(room.data) == 6, "live again")
    assert room.data == [1, 3, 5, 7, 9, 11]
    refused = await one.join(channel(), tags_filter=Filter.eq("kind", "odd"))
    assert [ctx.code for ctx in refused.unsubscribed] == [107]
    await one.client.disconnect()
    await proxy.stop()


async def test_limits_on_commands_and_errors(channel, protobuf):
    def per(rate, interval):
        return {"enabled": True, "buckets": [{"rate": rate, "interval": interval}]}

    limits = {
        "client_command": {"enabled": True, "publish": per(3, "1s")},
        "client_error": {"enabled": True, "total": per(3, "60s")},
    }
    running = Server({"allow_anonymous_connect_without_token": True, "rate_limit": limits})
    try:
        one = await Peer(running.ws, protobuf).connect()
        room = await one.join(channel())
        codes = []
        for n in range(4):
            try:
                await one.publish(room.sub.channel, n)
            except ReplyError as error:
                codes.append((error.code, error.temporary))
        await until(lambda: len(room.data) == 3, "three publications")
        assert codes == [(111, True)] and room.data == [0, 1, 2]
        for _ in range(4):
            # What is asked after the last error finds no connection.
            with contextlib.suppress(CentrifugeError):
                await one.client.rpc("x", one.pack({}))
        await until(lambda: any(ctx.code == 3013 for ctx in one.connecting), "too many errors")
        assert not one.disconnected
        await one.client.disconnect()
    finally:
        running.stop()
