"""Server under test, a proxy that can be cut, and a client that notes everything it is told."""

import asyncio
import contextlib
import json
import os
import pathlib
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request

from centrifuge import Client, ClientEventHandler, SubscriptionEventHandler

DEADLINE = 15.0
API_KEY = "sdk-tests-key"
ROOT = pathlib.Path(__file__).resolve().parents[3]

OPEN = {
    "presence": True,
    "join_leave": True,
    "force_recovery": True,
    "history_size": 100,
    "history_ttl": "300s",
    **{
        f"allow_{what}_for_{whom}": True
        for what in ("subscribe", "publish", "presence", "history")
        for whom in ("client", "anonymous")
    },
}

CONFIG = {
    "http_server": {"address": "127.0.0.1"},
    "http_api": {"key": API_KEY},
    # A client whose event loop has ended does not answer a close: nobody is to wait for it.
    "shutdown": {"timeout": "1s"},
    "client": {"allow_anonymous_connect_without_token": True},
    "channel": {
        "namespaces": [
            {"name": "chat", **OPEN},
            {"name": "small", **OPEN, "history_size": 3},
            {"name": "plain", "allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True},
            {"name": "locked"},
        ]
    },
}


async def until(check, what, deadline=DEADLINE):
    """Polls until `check()` is truthy; that is the result."""
    end = time.monotonic() + deadline
    while True:
        result = check()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline} s: {what}")
        await asyncio.sleep(0.015)


def binary():
    """`SERVER_BIN`, else the newest of the release and the debug build."""
    if "SERVER_BIN" in os.environ:
        return os.environ["SERVER_BIN"]
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    built = [p for p in (target / "release/corecast", target / "debug/corecast") if p.exists()]
    if not built:
        raise RuntimeError("no corecast binary: run 'cargo build --release' or set SERVER_BIN")
    return str(max(built, key=lambda p: p.stat().st_mtime))


def free_port():
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    def __init__(self, client=None, namespaces=None, tls=False):
        """`client`: settings of that section in place of the usual ones. `namespaces`: more of them, open otherwise.

        `tls`: behind TLS, with `certificate`.
        """
        self.port = free_port()
        self.directory = tempfile.TemporaryDirectory(prefix="corecast-sdk-")
        self.certificate, flags = None, []
        if tls:
            self.certificate, key = [str(pathlib.Path(self.directory.name, name)) for name in ("cert.pem", "key.pem")]
            subprocess.run([binary(), "gen-cert", "--cert", self.certificate, "--key", key], check=True, stdout=subprocess.DEVNULL)
            values = {"enabled": "true", "cert_pem": self.certificate, "key_pem": key}
            flags = [part for name, value in values.items() for part in ("--set", f"http_server.tls.{name}={value}")]
        config = pathlib.Path(self.directory.name, "config.json")
        more = [{"name": name, **OPEN, **options} for name, options in (namespaces or {}).items()]
        channel = {"namespaces": [*CONFIG["channel"]["namespaces"], *more]}
        config.write_text(json.dumps(CONFIG | {"channel": channel} | ({"client": client} if client else {})))
        self.log = open(pathlib.Path(self.directory.name, "log"), "w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [binary(), "serve", "--config", str(config), "--set", f"http_server.port={self.port}", *flags],
            stdout=self.log,
            stderr=self.log,
        )
        end = time.monotonic() + DEADLINE
        while not self._healthy():
            if self.process.poll() is not None or time.monotonic() > end:
                self.log.seek(0)
                raise RuntimeError(f"server did not start ({self.process.poll()}): {self.log.read()}")
            time.sleep(0.02)

    @property
    def ws(self):
        return f"ws{'s' if self.certificate else ''}://127.0.0.1:{self.port}/connection/websocket"

    def _healthy(self):
        scheme, trust = ("https", ssl.create_default_context(cafile=self.certificate)) if self.certificate else ("http", None)
        try:
            with urllib.request.urlopen(f"{scheme}://127.0.0.1:{self.port}/health", timeout=2, context=trust) as response:
                return response.status == 200
        except OSError:
            return False

    def _call(self, method, body):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/{method}",
            data=json.dumps(body).encode(),
            headers={"X-API-Key": API_KEY, "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=DEADLINE) as response:
            answer = json.load(response)
        assert "result" in answer, answer
        return answer["result"]

    async def api(self, method, body):
        return await asyncio.to_thread(self._call, method, body)

    async def publish(self, channel, data):
        return await self.api("publish", {"channel": channel, "data": data})

    def stop(self):
        died = self.process.poll()
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        self.directory.cleanup()
        assert died is None, f"server died during the tests: {died}"


class Proxy:
    """Forwards to the server; `cut()` resets what is open and refuses new connections until `mend()`."""

    @classmethod
    async def start(cls, target):
        proxy = cls()
        proxy.target, proxy.is_cut, proxy.refused, proxy.writers, proxy.tasks = target, False, 0, set(), set()
        proxy.server = await asyncio.start_server(proxy._accept, "127.0.0.1", 0)
        return proxy

    @property
    def ws(self):
        return f"ws://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/connection/websocket"

    async def _accept(self, reader, writer):
        if self.is_cut:
            self.refused += 1
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self.writers |= {writer, far_writer}
        self.tasks.add(asyncio.current_task())
        try:
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        finally:
            self.writers -= {writer, far_writer}
            self.tasks.discard(asyncio.current_task())

    @staticmethod
    async def _pump(reader, writer):
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65_536):
                writer.write(chunk)
                await writer.drain()
        writer.transport.abort()

    def cut(self):
        self.is_cut = True
        for writer in list(self.writers):
            writer.transport.abort()

    def mend(self):
        self.is_cut = False

    async def stop(self):
        self.cut()
        self.server.close()
        if self.tasks:
            await asyncio.wait(set(self.tasks), timeout=DEADLINE)


class Room(SubscriptionEventHandler):
    def __init__(self, peer):
        self.peer, self.publications, self.data = peer, [], []
        self.subscribing, self.subscribed, self.unsubscribed = [], [], []
        self.joined, self.left, self.errors = [], [], []

    async def on_publication(self, ctx):
        self.publications.append(ctx.pub)
        self.data.append(self.peer.unpack(ctx.pub.data))

    async def on_subscribing(self, ctx):
        self.subscribing.append(ctx)

    async def on_subscribed(self, ctx):
        self.subscribed.append(ctx)

    async def on_error(self, ctx):
        self.errors.append(ctx)

    async def on_unsubscribed(self, ctx):
        self.unsubscribed.append(ctx)

    async def on_join(self, ctx):
        self.joined.append(ctx.info.client)

    async def on_leave(self, ctx):
        self.left.append(ctx.info.client)


class Peer(ClientEventHandler):
    """A client. `server_subs`, `heard` and so on are about subscriptions the server makes: contexts by channel, (channel, data), …"""

    def __init__(self, url, protobuf, **more):
        self.protobuf, self.id = protobuf, None
        self.server_subs, self.server_unsubscribed, self.heard = {}, [], []
        self.server_joined, self.server_left = [], []
        self.connecting, self.disconnected, self.errors = [], [], []
        self.client = Client(
            url,
            events=self,
            use_protobuf=protobuf,
            proxy=None,
            min_reconnect_delay=0.05,
            max_reconnect_delay=0.3,
            **more,
        )

    def pack(self, value):
        return json.dumps(value).encode() if self.protobuf else value

    def unpack(self, data):
        return json.loads(data) if self.protobuf else data

    async def on_connecting(self, ctx):
        self.connecting.append(ctx)

    async def on_connected(self, ctx):
        self.id = ctx.client

    async def on_disconnected(self, ctx):
        self.disconnected.append(ctx)

    async def on_error(self, ctx):
        self.errors.append(ctx)

    async def on_subscribed(self, ctx):
        self.server_subs.setdefault(ctx.channel, []).append(ctx)

    async def on_unsubscribed(self, ctx):
        self.server_unsubscribed.append(ctx.channel)

    async def on_publication(self, ctx):
        self.heard.append((ctx.channel, self.unpack(ctx.pub.data)))

    async def on_join(self, ctx):
        self.server_joined.append((ctx.channel, ctx.info.client))

    async def on_leave(self, ctx):
        self.server_left.append((ctx.channel, ctx.info.client))

    async def connect(self):
        await self.client.connect()
        await until(lambda: self.id, "connected")
        return self

    async def join(self, channel, join_leave=False, **more):
        room = Room(self)
        room.sub = self.client.new_subscription(
            channel, events=room, join_leave=join_leave, min_resubscribe_delay=0.05, max_resubscribe_delay=0.3, **more
        )
        await room.sub.subscribe()
        await until(lambda: room.subscribed or room.unsubscribed, f"an answer for {channel}")
        return room

    async def publish(self, channel, value):
        return await self.client.publish(channel, self.pack(value))
