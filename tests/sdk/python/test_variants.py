"""Fossil deltas, tags filters and channels by number with centrifuge-python: what comes out is what went in, letter by letter."""

import pytest
from centrifuge import DeltaType, Filter
from harness import Peer, Proxy, Server, until

LINES = ["Привет, как дела?", "naïve façade", "日本語のテキスト", "emoji 😀😃😄", 'plain <b>&"\\ text\u2028']


def version(n):
    """A document of which each version differs a little, between letters of one to four bytes."""
    lines = [f"«{n}»{line[1:]}" if at == n % len(LINES) else line for at, line in enumerate(LINES)]
    return {"n": n, "lines": lines, "numbers": [i * (3 if n % 7 == 0 else 2) for i in range(20)]}


@pytest.fixture(scope="module")
def delta_server():
    running = Server(
        namespaces={
            "delta": {"allowed_delta_types": ["fossil"], "delta_publish": True},
            "filter": {"allow_tags_filter": True, "allow_channel_compaction": True},
        }
    )
    yield running
    running.stop()


@pytest.mark.parametrize("protobuf", [False, True], ids=["json", "protobuf"])
async def test_live_and_recovered(delta_server, channel, protobuf):
    proxy = await Proxy.start(delta_server.port)
    peer = await Peer(proxy.ws, protobuf).connect()
    name = channel("delta")
    room = await peer.join(name, delta=DeltaType.FOSSIL)
    for n in range(1, 21):
        await delta_server.publish(name, version(n))
    await until(lambda: len(room.data) == 20, "live")
    assert sum(it.delta for it in room.publications) == 19
    proxy.cut()
    for n in range(21, 41):
        await delta_server.publish(name, version(n))
    proxy.mend()
    await until(lambda: len(room.subscribed) == 2, "subscribed again")
    for n in range(41, 46):
        await delta_server.publish(name, version(n))
    await until(lambda: len(room.data) == 45, "everything")
    assert room.data == [version(n) for n in range(1, 46)]
    assert [it.offset for it in room.publications] == list(range(1, 46))
    await peer.client.disconnect()
    await proxy.stop()


@pytest.mark.parametrize("protobuf", [False, True], ids=["json", "protobuf"])
async def test_tags_filter_and_numbers(delta_server, channel, protobuf):
    peer = await Peer(delta_server.ws, protobuf).connect()
    name = channel("filter")
    wanted = Filter.all(Filter.eq("ticker", "AAPL"), Filter.negate(Filter.gt("price", "6.5")))
    room = await peer.join(name, tags_filter=wanted)
    for n in range(1, 11):
        tags = {"ticker": "AAPL" if n % 2 else "GOOG", "price": str(n)}
        await delta_server.api("publish", {"channel": name, "data": {"n": n}, "tags": tags})
    await until(lambda: len(room.data) == 3, "what is wanted")
    await delta_server.api("publish", {"channel": name, "data": {"n": 99}, "tags": {"ticker": "AAPL"}})
    await until(lambda: len(room.data) == 4, "no price is not above 6.5")
    assert [it["n"] for it in room.data] == [1, 3, 5, 99]
    assert room.sub._push_id > 0
    await peer.client.disconnect()
