// Compression (permessage-deflate) with the real SDK, Chromium and raw clients: agreed on, invisible, and smaller.

import assert from 'node:assert/strict';
import zlib from 'node:zlib';
import { describe, test } from 'node:test';
import WebSocket from 'ws';
import { Browser } from '../lib/browser.mjs';
import { behindProxy } from '../lib/behind.mjs';
import { agreed } from '../lib/echo.mjs';
import { Raw } from '../lib/raw.mjs';
import { Peer, SDKS } from '../lib/sdk.mjs';
import { Server } from '../lib/server.mjs';
import { channel, range, until } from '../lib/util.mjs';

const ANSWER = 'permessage-deflate; server_no_context_takeover; client_no_context_takeover';
const LONG = 'a text that is long enough to be worth it, worth it, worth it. '.repeat(8);

const { server, proxy } = await behindProxy(Server.start({ websocket: { compression: true } }));

async function metric(name) {
  const text = await (await fetch(`${server.http}/metrics`)).text();
  return [...text.matchAll(new RegExp(`^corecast_${name}(?:\\{.*\\})? (\\d+)$`, 'gm'))].reduce((sum, [, n]) => sum + Number(n), 0);
}

/** The `ws` under the SDK's transport. */
const socket = (peer) => peer.client._transport._transport;

for (const sdk of SDKS) {
  describe(sdk.name, () => {
    test('publish, subscribe, presence and history, compressed', async () => {
      const name = channel();
      const before = await metric('deflated_messages_total');
      const [a, b] = await Promise.all([0, 1].map(() => new Peer(sdk, server.ws).connect()));
      assert.equal(agreed(socket(a)), ANSWER);
      const [roomA, roomB] = [await a.join(name), await b.join(name)];
      for (const n of range(1, 20)) await a.publish(name, { n, text: LONG });
      await until(() => roomA.data.length >= 20 && roomB.data.length >= 20, 'all publications');
      for (const room of [roomA, roomB]) assert.deepEqual(room.data, range(1, 20).map((n) => ({ n, text: LONG })));
      const presence = await roomB.sub.presence();
      assert.deepEqual(Object.keys(presence.clients).sort(), [a.id, b.id].sort());
      const history = await roomB.sub.history({ limit: 20 });
      assert.deepEqual(history.publications.map((p) => sdk.unpack(p.data).n), range(1, 20));
      assert.ok((await metric('deflated_messages_total')) >= before + 20);
      a.close();
      b.close();
    });

    test('what the client compresses is understood', async () => {
      const name = channel();
      const before = await metric('inflated_messages_total');
      const peer = await new Peer(sdk, server.ws).connect();
      const room = await peer.join(name);
      // Above the threshold of `ws`.
      const text = LONG.repeat(8);
      await peer.publish(name, { text });
      await until(() => room.data.length === 1, 'the publication');
      assert.deepEqual(room.data, [{ text }]);
      assert.equal(await metric('inflated_messages_total'), before + 1);
      peer.close();
    });

    test('recovers exactly what was missed', async () => {
      const name = channel();
      const peer = await new Peer(sdk, proxy.ws).connect();
      const room = await peer.join(name, { joinLeave: false });
      for (const n of range(1, 5)) await server.publish(name, { n, text: LONG });
      await until(() => room.data.length === 5, 'before the cut');
      proxy.cut();
      for (const n of range(6, 45)) await server.publish(name, { n, text: LONG });
      const refused = proxy.refused;
      await until(() => proxy.refused > refused, 'a reconnect was refused');
      proxy.mend();
      await until(() => room.subscribed.length === 2 && room.data.length >= 45, 'everything');
      assert.equal(room.subscribed[1].recovered, true);
      assert.equal(agreed(socket(peer)), ANSWER);
      assert.deepEqual(room.data.map((d) => d.n), range(1, 45));
      peer.close();
    });
  });
}

test('a client that offers nothing hears the same, uncompressed', async () => {
  const name = channel();
  const plain = await Raw.connected(server.ws);
  const packed = await Raw.connected(server.ws, { ws: { perMessageDeflate: true } });
  assert.deepEqual([plain, packed].map((raw) => agreed(raw.socket)), ['', ANSWER]);
  // Two of each: shared frames.
  const more = [await Raw.connected(server.ws), await Raw.connected(server.ws, { ws: { perMessageDeflate: true } })];
  const all = [plain, packed, ...more];
  for (const raw of all) await raw.call({ id: 2, subscribe: { channel: name } });
  const bytes = all.map((raw) => raw.socket._socket.bytesRead);
  for (const n of range(1, 30)) await server.publish(name, { n, text: LONG });
  const heard = (raw) => raw.messages.filter((m) => m.push?.pub).map((m) => m.push.pub.data.n);
  for (const raw of all) {
    await until(() => heard(raw).length >= 30, 'all');
    assert.deepEqual(heard(raw), range(1, 30));
  }
  const [came, packedCame] = all.map((raw, n) => raw.socket._socket.bytesRead - bytes[n]);
  assert.ok(packedCame * 3 < came, `${packedCame} bytes compressed, ${came} plain`);
  all.forEach((raw) => raw.end());
});

test('a bomb closes with 1009, and a long command in a small message with 3501', async () => {
  const bomb = zlib.deflateRawSync(Buffer.alloc(60 << 20), { level: 9, finishFlush: zlib.constants.Z_SYNC_FLUSH }).subarray(0, -4);
  assert.ok(bomb.length < 65_536);
  for (const [payload, want] of [
    [bomb, 1009],
    [zlib.deflateRawSync(JSON.stringify({ id: 2, publish: { channel: 'chat:x', data: 'x'.repeat(70_000) } }), { finishFlush: zlib.constants.Z_SYNC_FLUSH }).subarray(0, -4), 3501],
  ]) {
    const raw = await Raw.connected(server.ws, { ws: { perMessageDeflate: true } });
    const head = payload.length < 126 ? [0xc1, 0x80 | payload.length] : payload.length < 65_536 ? [0xc1, 0xfe, payload.length >> 8, payload.length & 255] : assert.fail();
    raw.socket._socket.write(Buffer.concat([Buffer.from([...head, 0, 0, 0, 0]), payload]));
    assert.equal((await raw.ended()).code, want);
  }
});

test('without websocket.compression nothing is agreed on', async () => {
  const plain = await Server.start();
  const ws = new WebSocket(plain.ws);
  await new Promise((resolve, reject) => ws.on('open', resolve).on('error', reject));
  assert.equal(agreed(ws), '');
  ws.terminate();
  await plain.stop();
});

test('Chromium', async () => {
  const browser = await Browser.start();
  try {
    const answers = [];
    const room = `chat:chromium-${process.pid}`;
    const before = await metric('deflated_messages_total');
    const chat = await browser.open({ server: server.ws, room, name: 'chromium' });
    const session = await chat.page.context().newCDPSession(chat.page);
    await session.send('Network.enable');
    session.on('Network.webSocketHandshakeResponseReceived', ({ response }) => {
      const field = Object.entries(response.headers).find(([key]) => key.toLowerCase() === 'sec-websocket-extensions');
      answers.push(field?.[1]);
    });
    await chat.page.reload();
    await chat.state('connected');
    assert.deepEqual(answers, [ANSWER]);
    for (const n of range(1, 5)) await server.publish(room, { from: 'api', text: `${n} ${LONG}`.trim() });
    await chat.say(LONG.trim());
    const messages = await chat.heard(6, 'six messages');
    assert.equal(messages.at(-1).text, LONG.trim());
    assert.deepEqual(chat.errors, []);
    assert.ok((await metric('deflated_messages_total')) >= before + 6);
  } finally {
    await browser.stop();
  }
});
