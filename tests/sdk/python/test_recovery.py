"""Recovery with centrifuge-python, of streams and of latest values, and by a state the application loads."""

import pytest
from centrifuge.types import StreamPosition
from harness import Peer, Proxy, Server, until


@pytest.fixture(scope="module")
def kept():
    cache = {"force_recovery_mode": "cache"}
    running = Server(namespaces={"cache": cache, "latest": {**cache, "auto_cache_recover": True}})
    yield running
    running.stop()


@pytest.fixture(params=[False, True], ids=["json", "protobuf"])
def protobuf(request):
    return request.param


class Cut:
    """A client behind a proxy, in a channel, and what is published while it is cut off."""

    @classmethod
    async def off(cls, server, protobuf, name, first=(), **more):
        it = cls()
        it.server, it.name = server, name
        it.proxy = await Proxy.start(server.port)
        it.peer = await Peer(it.proxy.ws, protobuf).connect()
        it.room = await it.peer.join(name, **more)
        for value in first:
            await server.publish(name, value)
        await until(lambda: it.room.data == list(first), "what comes before the cut")
        it.proxy.cut()
        return it

    async def back(self, values=()):
        for value in values:
            await self.server.publish(self.name, value)
        self.proxy.mend()
        await until(lambda: len(self.room.subscribed) == 2, "subscribed again")
        context = self.room.subscribed[1]
        assert context.was_recovering
        return context.recovered

    async def end(self):
        await self.peer.client.disconnect()
        await self.proxy.stop()


async def test_nothing_missed_comes_twice(kept, channel, protobuf):
    it = await Cut.off(kept, protobuf, channel(), [1, 2])
    assert await it.back()
    await kept.publish(it.name, 3)
    await until(lambda: len(it.room.data) == 3, "live again")
    assert it.room.data == [1, 2, 3]
    await it.end()


async def test_exactly_what_history_keeps(kept, channel, protobuf):
    it = await Cut.off(kept, protobuf, channel("small"), [1])
    assert await it.back([2, 3, 4])
    await until(lambda: len(it.room.data) == 4, "what was missed")
    assert it.room.data == [1, 2, 3, 4]
    await it.end()


async def test_history_removed_meanwhile(kept, channel, protobuf):
    it = await Cut.off(kept, protobuf, channel(), [1])
    await kept.publish(it.name, 2)
    await kept.api("history_remove", {"channel": it.name})
    assert not await it.back()
    await kept.publish(it.name, 3)
    await until(lambda: len(it.room.data) == 2, "live again")
    assert it.room.data == [1, 3]
    await it.end()


async def test_only_the_latest_of_a_cache(kept, channel, protobuf):
    it = await Cut.off(kept, protobuf, channel("cache"), [1])
    assert await it.back([2, 3, 4])
    await kept.publish(it.name, 5)
    await until(lambda: len(it.room.data) == 3, "the latest, and live again")
    assert it.room.data == [1, 4, 5]
    await it.end()


async def test_the_latest_for_who_comes_first(kept, channel, protobuf):
    name = channel("latest")
    for n in (1, 2, 3):
        await kept.publish(name, n)
    one = await Peer(kept.ws, protobuf).connect()
    room = await one.join(name)
    await until(lambda: room.data == [3], "the latest")
    assert room.subscribed[0].recovered
    await one.client.disconnect()


async def test_a_state_of_the_application(kept, channel, protobuf):
    name = channel("small")
    for n in range(1, 11):
        position = await kept.publish(name, n)
    asked = []

    # The first is too old for a history of three: error 112, and the SDK asks again.
    async def get_state(_):
        asked.append(1)
        return StreamPosition(1 if len(asked) == 1 else 8, position["epoch"])

    one = await Peer(kept.ws, protobuf).connect()
    room = await one.join(name, get_state=get_state)
    await until(lambda: room.data == [9, 10], "what came behind the state")
    assert len(asked) == 2 and len(room.subscribed) == 1 and not room.errors
    await one.client.disconnect()
