// SockJS: the client of npm and an SDK of its days, over each transport; and its frames by hand.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, before, describe, test } from 'node:test';
import WebSocket from 'ws';
import { Browser } from '../lib/browser.mjs';
import { LATE_JSON, OldPeer, heard } from '../lib/old.mjs';
import { Proxy } from '../lib/proxy.mjs';
import { JSON_SDK, Peer } from '../lib/sdk.mjs';
import { Server } from '../lib/server.mjs';
import { SECRET, token } from '../lib/token.mjs';
import { channel, range, until } from '../lib/util.mjs';

const require = createRequire(import.meta.url);
const SockJS = require('sockjs-client');
const TRANSPORTS = ['websocket', 'xhr-streaming', 'eventsource', 'xhr-polling'];
const ORIGIN = 'https://page.example';

let server;
const peers = [];
before(async () => {
  server = await Server.start({
    sockjs: { enabled: true },
    client: {
      allowed_origins: [ORIGIN],
      protocol_v1: 'offset',
      token: { hmac_secret_key: SECRET },
      allow_anonymous_connect_without_token: true,
    },
  });
});
after(async () => {
  peers.forEach((peer) => peer.close());
  await server?.stop();
});

const at = (port = server.port) => `http://127.0.0.1:${port}/connection/sockjs`;

async function made(transport, url = at(), jwt = undefined) {
  const peer = new OldPeer(LATE_JSON, url, { sockjs: SockJS, sockjsTransports: [transport] });
  peers.push(peer);
  if (jwt) peer.token(jwt);
  return peer.connect();
}

for (const transport of TRANSPORTS) {
  describe(transport, () => {
    test('a conversation with a client of today', async () => {
      const name = channel();
      const old = await made(transport, at(), token({ sub: '42' }));
      assert.equal(old.connected[0].transport, `sockjs-${transport}`);
      const today = await new Peer(JSON_SDK, server.ws).connect();
      peers.push(today);
      const rooms = [await old.join(name), await today.join(name)];
      const sent = [{ text: 'Grüße, 世界 🎉 </script>' }, 'a\n"b"\\', ...range(1, 40)];
      for (const value of sent.slice(0, 20)) await old.publish(name, value);
      for (const value of sent.slice(20)) await today.publish(name, value);
      await until(() => rooms.every((room) => room.data.length === sent.length), 'all publications');
      for (const room of rooms) assert.deepEqual(heard(LATE_JSON, room), sent);
      await until(() => rooms[0].joined.length === 2, 'both joins');
      assert.deepEqual(rooms[0].joined, [old.id, today.id]);
      const { presence } = await rooms[0].sub.presence();
      assert.equal(presence[old.id].user, '42');
      const { publications } = await rooms[0].sub.history({ limit: 5 });
      assert.deepEqual(publications.map((it) => it.data), sent.slice(0, 5));
      today.close();
      await until(() => rooms[0].left.length === 1, 'a leave');
    });

    test('a burst comes whole and in order', async () => {
      const name = channel();
      const old = await made(transport);
      const room = await old.join(name);
      const commands = range(1, 300).map((n) => ({ publish: { channel: name, data: { n, text: '"\\'.repeat(50) } } }));
      assert.equal((await server.request('batch', { commands })).status, 200);
      await until(() => room.data.length === 300, 'all publications');
      assert.deepEqual(heard(LATE_JSON, room).map((it) => it.n), range(1, 300));
    });

    test('what was missed is recovered', async () => {
      const name = channel();
      const proxy = await Proxy.start(server.port);
      try {
        const old = await made(transport, at(proxy.port));
        const room = await old.join(name);
        await server.publish(name, 1);
        await until(() => room.data.length === 1, 'before the cut');
        proxy.cut();
        if (transport === 'eventsource') {
          // An EventSource comes back by itself, to the same session.
          await until(() => proxy.refused > 0, 'it tried');
          proxy.mend();
          for (const n of range(2, 9)) await server.publish(name, n);
          await until(() => room.data.length === 9, 'the rest');
          assert.deepEqual([heard(LATE_JSON, room), old.connected.length], [range(1, 9), 1]);
          return;
        }
        for (const n of range(2, 9)) await server.publish(name, n);
        await until(() => old.disconnected.length === 1 && proxy.refused > 0, 'it noticed');
        proxy.mend();
        await until(() => room.data.length === 9, 'recovery', 40_000);
        assert.deepEqual(heard(LATE_JSON, room), range(1, 9));
      } finally {
        await proxy.stop();
      }
    });

    test('why it ended', async () => {
      const old = await made(transport);
      await server.api('disconnect', { user: '', client: old.id, disconnect: { code: 4000, reason: 'come back' } });
      await until(() => old.connected.length === 2, 'a reconnect');
      assert.deepEqual(old.disconnected, [{ reason: 'come back', reconnect: true }]);
      assert.equal(old.closes[0].event.code, 4000);
      await server.api('disconnect', { user: '', client: old.id });
      await until(() => old.disconnected.length === 2, 'a disconnect');
      assert.deepEqual(old.disconnected[1], { reason: 'force disconnect', reconnect: false });
    });

    test('a client that goes is gone', async () => {
      const name = channel();
      const old = await made(transport);
      await old.join(name);
      old.close();
      await until(async () => (await server.api('presence_stats', { channel: name })).num_clients === 0, 'nobody', 30_000);
    });
  });
}

/** A SockJS session by hand over WebSocket: the frames it is told. */
async function session(path = '/000/by-hand/websocket', options = {}) {
  const socket = new WebSocket(at().replace('http', 'ws') + path, options);
  const frames = [];
  socket.on('message', (data) => frames.push(data.toString()));
  const closed = new Promise((resolve) => socket.on('close', (code) => resolve(code)));
  await new Promise((resolve, reject) => socket.on('open', resolve).on('error', reject));
  return { socket, frames, closed };
}

test('frames: open, array, close', async () => {
  const { socket, frames, closed } = await session();
  await until(() => frames.length === 1, 'the open frame');
  assert.equal(frames[0], 'o');
  socket.send('');
  socket.send('[]');
  socket.send(JSON.stringify(['{"id":1,"connect":{}}', '{"id":2,"rpc":{}}\n{"id":3,"rpc":{}}']));
  const told = () => frames.slice(1).flatMap((frame) => JSON.parse(frame.slice(1)));
  await until(() => told().length === 3, 'three replies');
  assert.deepEqual(told().map((it) => JSON.parse(it).id), [1, 2, 3]);
  const heard = frames.length;
  socket.send(JSON.stringify('{"id":4,"rpc":{}}'));
  await until(() => frames.length > heard, 'a fourth');
  socket.send('["');
  assert.equal(await closed, 3501);
  assert.equal(frames.at(-1), 'c[3501,"bad request"]');
});

test('without SockJS inside', async () => {
  const { socket, frames } = await session('/websocket');
  socket.send('{"id":1,"connect":{}}');
  await until(() => frames.length === 1, 'a reply');
  assert.equal(JSON.parse(frames[0]).id, 1);
  socket.terminate();
});

test('what is asked first, and by whom', async () => {
  const get = (path, headers = {}, method = 'GET') => fetch(at() + path, { headers, method });
  const greeting = await get('');
  assert.deepEqual([greeting.status, await greeting.text()], [200, 'Welcome to SockJS!\n']);
  const info = await get('/info', { Origin: ORIGIN });
  assert.equal(info.headers.get('access-control-allow-origin'), ORIGIN);
  assert.equal(info.headers.get('access-control-allow-credentials'), 'true');
  assert.match(info.headers.get('cache-control'), /no-store/);
  const { entropy, ...fixed } = await info.json();
  assert.deepEqual(fixed, { websocket: true, cookie_needed: false, origins: ['*:*'] });
  assert.ok(Number.isInteger(entropy));
  assert.notEqual((await (await get('/info')).json()).entropy, entropy);
  assert.equal((await get('/info', { Origin: ORIGIN }, 'OPTIONS')).status, 204);
  assert.equal((await get('/info', { Origin: 'https://other.example' })).status, 403);
  for (const path of ['/iframe.html', '/0/a.b/websocket', '/0/a/jsonp', '/0/a/htmlfile', '/0/a/websocket/b']) {
    assert.equal((await get(path)).status, 404, path);
  }
  const refused = session('/0/a/websocket', { origin: 'https://other.example' });
  await assert.rejects(refused, /403/);
});

test('polling by hand: CORS, statuses, sessions on whatever core', async () => {
  const post = (path, body = '', headers = {}) => fetch(at() + path, { method: 'POST', body, headers: { Origin: ORIGIN, ...headers } });
  const opened = await post('/0/polled/xhr');
  assert.deepEqual([opened.status, await opened.text()], [200, 'o\n']);
  assert.match(opened.headers.get('content-type'), /^application\/javascript/);
  assert.equal(opened.headers.get('access-control-allow-origin'), ORIGIN);
  const sent = await post('/0/polled/xhr_send', JSON.stringify(['{"id":1,"connect":{}}']));
  assert.deepEqual([sent.status, await sent.text()], [204, '']);
  assert.match(await (await post('/0/polled/xhr')).text(), /^a\["\{\\"id\\":1,\\"connect\\":/);
  for (const [path, body, status] of [
    ['/0/polled/xhr_send', '', 500],
    ['/0/polled/xhr_send', '["', 500],
    ['/0/polled/xhr_send', 'x'.repeat(70_000), 413],
    ['/0/nobody/xhr_send', '[]', 404],
  ]) {
    assert.equal((await post(path, body)).status, status, `${path} ${body.slice(0, 9)}`);
  }
  // Each on a connection of its own.
  for (let id = 2; id < 12; id += 1) {
    await post('/0/polled/xhr_send', JSON.stringify([`{"id":${id},"rpc":{}}`]), { Connection: 'close' });
    assert.match(await (await post('/0/polled/xhr', '', { Connection: 'close' })).text(), new RegExp(`"id\\\\":${id},`));
  }
  // One waits; the other, whichever comes second, is told so.
  const both = range(1, 2).map(async () => (await post('/0/polled/xhr', '', { Connection: 'close' })).text());
  assert.equal(await Promise.race(both), 'c[2010,"Another connection still open"]\n');
  await post('/0/polled/xhr_send', JSON.stringify(['nonsense']));
  assert.ok((await Promise.all(both)).includes('c[3501,"bad request"]\n'));
  assert.equal((await fetch(`${at()}/0/other/xhr`, { method: 'POST', headers: { Origin: 'https://other.example' } })).status, 403);
});

test('a streaming response ends at its limit, and its session goes on', async () => {
  const name = channel();
  const old = await made('xhr-streaming');
  const room = await old.join(name);
  const text = 'x'.repeat(20_000);
  for (const n of range(1, 20)) await server.publish(name, { n, text });
  await until(() => room.data.length === 20, 'all of several responses');
  assert.deepEqual(heard(LATE_JSON, room).map((it) => it.n), range(1, 20));
  assert.equal(old.connected.length, 1);
});

test('Chromium, without WebSocket', async () => {
  const name = channel();
  const open = await Server.start({
    sockjs: { enabled: true },
    client: { allowed_origins: ['*'], protocol_v1: 'offset', allow_anonymous_connect_without_token: true },
  });
  const browser = await Browser.start();
  try {
    const page = await browser.blank();
    await page.evaluate(() => delete globalThis.WebSocket);
    await page.addScriptTag({ path: require.resolve('sockjs-client/dist/sockjs.min.js') });
    await page.addScriptTag({ path: require.resolve('centrifuge-v2/dist/centrifuge.min.js') });
    for (const transport of ['xhr-streaming', 'eventsource', 'xhr-polling', undefined]) {
      const used = await page.evaluate(
        ([url, room, only]) =>
          new Promise((resolve) => {
            const options = only ? { sockjsTransports: [only] } : {};
            const client = new globalThis.Centrifuge(url, options);
            const told = {};
            client.on('connect', (ctx) => (told.transport = ctx.transport));
            const sub = client.subscribe(room, (ctx) => {
              told.data = ctx.data;
              client.disconnect();
              resolve(told);
            });
            sub.on('subscribe', () => sub.publish({ from: 'a page' }));
            client.connect();
          }),
        [at(open.port), name, transport],
      );
      // Left to itself SockJS tries streaming first.
      assert.deepEqual(used, { transport: `sockjs-${transport ?? 'xhr-streaming'}`, data: { from: 'a page' } });
    }
  } finally {
    await browser.stop();
    await open.stop();
  }
});
