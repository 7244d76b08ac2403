"""Tokens with centrifuge-python: connecting, refresh of connections and subscriptions, refusals."""

import base64
import hashlib
import hmac
import json
import time

import pytest
from harness import Peer, Server, until

SECRET = "sdk-tests-secret"


def token(claims, ttl=None, secret=SECRET):
    """HS256; `ttl` in seconds from now, negative for the past."""

    def encoded(raw):
        return base64.urlsafe_b64encode(raw).rstrip(b"=")

    claims = claims if ttl is None else {**claims, "exp": int(time.time()) + ttl}
    signed = b".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    tag = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    return (signed + b"." + encoded(tag)).decode()


@pytest.fixture(scope="module")
def keyed():
    running = Server({"token": {"hmac_secret_key": SECRET}, "expired_close_delay": "3s"})
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
