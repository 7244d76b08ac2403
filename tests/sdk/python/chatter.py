"""A Python client for tests written in another language.

Arguments: URL, channel, "json" or "protobuf". Each event goes to stdout as a line of JSON; each line of JSON on stdin is
published. Ends with stdin.
"""

import asyncio
import json
import sys

from harness import Peer, Room


def say(**event):
    print(json.dumps(event), flush=True)


class Teller(Room):
    async def on_publication(self, ctx):
        say(event="publication", offset=ctx.pub.offset, data=self.peer.unpack(ctx.pub.data))

    async def on_subscribed(self, ctx):
        say(event="subscribed", recovered=ctx.recovered, was_recovering=ctx.was_recovering)

    async def on_unsubscribed(self, ctx):
        say(event="unsubscribed", code=ctx.code)


async def main(url, channel, encoding):
    peer = await Peer(url, encoding == "protobuf").connect()
    sub = peer.client.new_subscription(channel, events=Teller(peer))
    await sub.subscribe()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        await sub.publish(peer.pack(json.loads(line)))
    await peer.client.disconnect()


asyncio.run(main(*sys.argv[1:4]))
