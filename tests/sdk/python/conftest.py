import itertools
import os

import pytest
import pytest_asyncio

from harness import Peer, Proxy, Server

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server():
    running = Server()
    yield running
    running.stop()


@pytest_asyncio.fixture
async def proxy(server):
    running = await Proxy.start(server.port)
    yield running
    await running.stop()


@pytest.fixture
def channel():
    """A name in a namespace that no other test uses."""
    return lambda namespace="chat": f"{namespace}:py-{os.getpid()}-{next(_numbers)}"


@pytest_asyncio.fixture(params=[False, True], ids=["json", "protobuf"])
async def peer(request, server):
    """Makes connected clients of one encoding."""
    made = []

    async def make(url=None):
        one = Peer(url or server.ws, request.param)
        made.append(one)
        return await one.connect()

    yield make
    for one in made:
        await one.client.disconnect()
