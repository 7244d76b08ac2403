"""centrifuge-python over wss://, in JSON and in Protobuf."""

import ssl

import pytest
from harness import Peer, Server, until


@pytest.fixture(scope="module")
def secure():
    running = Server(tls=True)
    yield running
    running.stop()


@pytest.mark.parametrize("protobuf", [False, True], ids=["json", "protobuf"])
async def test_publications_over_tls(secure, channel, protobuf):
    trust = ssl.create_default_context(cafile=secure.certificate)
    alice, bob = [await Peer(secure.ws, protobuf, ssl_context=trust).connect() for _ in range(2)]
    name = channel()
    room = await bob.join(name)
    sent = [{"text": "Grüße, 世界 🎉"}, "x" * 50_000, *({"n": n} for n in range(50))]
    for value in sent:
        await alice.publish(name, value)
    await until(lambda: len(room.data) == len(sent), "all publications")
    assert room.data == sent
    for peer in (alice, bob):
        await peer.client.disconnect()
