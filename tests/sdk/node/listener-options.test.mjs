// Small options: of transports for clients that only listen, of pages before they connect, of calls.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { EventSource } from 'eventsource';
import WebSocket from 'ws';
import { Browser } from '../lib/browser.mjs';
import { Peer, SDKS } from '../lib/sdk.mjs';
import { Server, open } from '../lib/server.mjs';
import { SECRET, token } from '../lib/token.mjs';
import { channel, until, within } from '../lib/util.mjs';

const transforms = [
  { code: 109, to: { status_code: 401, body: 'a new token, please' } },
  { code: 3500, to: { status_code: 403 } },
  { code: 102, to: { status_code: 404 } },
];
const PAGE = 'https://app.example';
let server;
let browser;
before(async () => {
  browser = await Browser.start();
  server = await Server.start({
    init: { enabled: true },
    rpc: { ping: { enabled: true } },
    uni_sse: { enabled: true, connect_code_to_http_response: { enabled: true, transforms } },
    uni_http_stream: { enabled: true, connect_code_to_http_response: { enabled: true, transforms } },
    uni_websocket: {
      enabled: true,
      compression: true,
      compression_level: 9,
      compression_min_size: 300,
      write_timeout: '200ms',
    },
    websocket: { write_timeout: '1h' },
    client: {
      allowed_origins: [PAGE, `http://127.0.0.1:${browser.site.address().port}`],
      allow_anonymous_connect_without_token: false,
      queue_max_size: 64 * 1024 * 1024,
      token: { hmac_secret_key: SECRET },
      connect_code_to_unidirectional_disconnect: {
        enabled: true,
        transforms: [{ code: 109, to: { code: 4401, reason: 'a new token, please' } }],
      },
    },
    channel: {
      namespaces: [
        { name: 'plain', ...open, join_leave: false, history_size: 0, history_ttl: '0s', force_recovery: false },
      ],
    },
    runtime: { cores: 2 },
  });
});
after(async () => {
  await browser?.stop();
  await server?.stop();
});

/** Status, type and text of the answer; of a session its first push. */
async function answer(transport, connect) {
  const response = await fetch(`${server.http}/connection/${transport}`, {
    method: 'POST',
    body: JSON.stringify(connect),
  });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  while (response.status !== 200 || !text.includes('connect')) {
    const { done, value } = await within(reader.read(), 'the answer');
    if (done) break;
    text += value;
  }
  await reader.cancel();
  return { status: response.status, type: response.headers.get('content-type'), text: text.trim() };
}

for (const transport of ['uni_sse', 'uni_http_stream']) {
  test(`${transport}: who may not connect is told so by a status`, async () => {
    const connect = (claims, more) => answer(transport, { token: token(claims, more) });
    const rows = [
      [await connect({ sub: '42' }, { ttl: -60 }), 401, 'a new token, please'],
      [await connect({ sub: '42' }, { secret: 'other' }), 403, 'invalid token'],
      [await connect({ sub: '42', channels: ['nowhere:a'] }), 404, 'unknown channel'],
      // Nobody said what becomes of 3501.
      [await answer(transport, {}), 500, 'Internal Server Error'],
    ];
    for (const [found, status, text] of rows) assert.deepEqual([found.status, found.text], [status, text]);
    // Users are owned by both cores: the answer waits for whichever it is.
    for (const sub of ['1', '2', '3', '4', '5', '6']) {
      const good = await connect({ sub, channels: [channel('plain')] });
      assert.equal(good.status, 200, good.text);
      assert.match(good.type, transport === 'uni_sse' ? /^text\/event-stream/ : /^application\/json/);
      assert.match(good.text, /"connect":\{"client"/);
    }
  });
}

test('EventSource sees the status and does not come back', async () => {
  const url = (claims, more) => {
    const connect = encodeURIComponent(JSON.stringify({ token: token(claims, more) }));
    return `${server.http}/connection/uni_sse?cf_connect=${connect}`;
  };
  const refused = new EventSource(url({ sub: '42' }, { ttl: -60 }));
  const error = await within(new Promise((resolve) => (refused.onerror = resolve)), 'the error');
  assert.deepEqual([error.code, refused.readyState], [401, EventSource.CLOSED]);
  const name = channel('plain');
  const good = new EventSource(url({ sub: '42', channels: [name] }));
  const heard = [];
  good.onmessage = ({ data }) => heard.push(JSON.parse(data));
  await until(() => heard.length > 0, 'connected');
  assert.deepEqual(Object.keys(heard[0].connect.subs), [name]);
  await server.publish(name, 1);
  await until(() => heard.some((push) => push.pub?.data === 1), 'the publication');
  good.close();
});

test('a page of another origin sees the status, and asks before it connects', async () => {
  const page = await browser.blank();
  const seen = await page.evaluate(
    async ([base, expired]) => {
      const body = JSON.stringify({ token: expired });
      const init = await (await fetch(`${base}/connection/init`, { credentials: 'include' })).text();
      const response = await fetch(`${base}/connection/uni_http_stream`, { method: 'POST', body });
      const source = new EventSource(`${base}/connection/uni_sse?cf_connect=${encodeURIComponent(body)}`);
      await new Promise((resolve) => (source.onerror = resolve));
      return [init, response.status, await response.text(), source.readyState];
    },
    [server.http, token({ sub: '42' }, { ttl: -60 })],
  );
  assert.deepEqual(seen, ['{}', 401, 'a new token, please', EventSource.CLOSED]);
});

/** A listener over WebSocket: what it heard, and how it ended. */
function listener(connect, options) {
  const socket = new WebSocket(server.ws.replace('websocket', 'uni_websocket'), options);
  const it = { socket, pushes: [] };
  socket.on('open', () => socket.send(JSON.stringify(connect)));
  socket.on('message', (data) => it.pushes.push(JSON.parse(data)));
  socket.on('error', () => {});
  it.closed = new Promise((resolve) => socket.on('close', (code, reason) => resolve([code, reason.toString()])));
  return it;
}

test('an error that listeners cannot be told becomes the disconnect that was configured', async () => {
  const expired = listener({ token: token({ sub: '42' }, { ttl: -60 }) });
  assert.deepEqual(await within(expired.closed, 'the end'), [4401, 'a new token, please']);
  assert.deepEqual(expired.pushes, [{ disconnect: { code: 4401, reason: 'a new token, please' } }]);
  const unknown = listener({ token: token({ sub: '42', channels: ['nowhere:a'] }) });
  assert.deepEqual(await within(unknown.closed, 'the end'), [3004, 'internal server error']);
});

test('listeners get compressed what is long enough', async () => {
  const name = channel('plain');
  const compressed = async () => {
    const page = await (await fetch(`${server.http}/metrics`)).text();
    const lines = [...page.matchAll(/^corecast_deflated_messages_total\S* (\d+)$/gm)];
    assert.ok(lines.length > 0, page);
    return lines.reduce((sum, [, n]) => sum + Number(n), 0);
  };
  const connect = { token: token({ sub: '42', channels: [name] }) };
  const many = [1, 2, 3].map(() => listener(connect, { perMessageDeflate: true }));
  const plain = listener(connect, { perMessageDeflate: false });
  const all = [...many, plain];
  await until(() => all.every((it) => it.pushes.length > 0), 'connected');
  assert.ok(many.every((it) => it.socket.extensions.includes('permessage-deflate')));
  assert.equal(plain.socket.extensions, '');
  const before = await compressed();
  await server.publish(name, { text: 'short' });
  await until(() => all.every((it) => it.pushes.length === 2), 'what is short');
  assert.equal(await compressed(), before, 'what is short is not worth it');
  for (const n of [1, 2]) await server.publish(name, { n, text: 'long '.repeat(200) });
  await until(() => all.every((it) => it.pushes.length === 4), 'what is long');
  for (const it of all) assert.deepEqual(it.pushes, [it.pushes[0], ...plain.pushes.slice(1)]);
  assert.deepEqual(plain.pushes.slice(2).map((push) => push.pub.data.n), [1, 2]);
  assert.ok((await compressed()) > before, 'what is long is');
  for (const it of all) it.socket.terminate();
});

test('a listener that takes nothing is cut after its own time', async () => {
  const name = channel('plain');
  const here = async () => (await server.api('presence_stats', { channel: name })).num_clients;
  const slow = listener({ token: token({ sub: '42', channels: [name] }) }, { perMessageDeflate: false });
  await until(() => slow.pushes.length > 0, 'connected');
  assert.equal(await here(), 1);
  slow.socket.pause();
  // More than sockets hold, less than may wait for a client: only time ends it.
  for (let n = 0; n < 30; n += 1) await server.publish(name, 'x'.repeat(1_000_000));
  await until(async () => (await here()) === 0, 'the end');
  slow.socket.terminate();
});

test('pages ask before they connect', async () => {
  const ask = (method, headers = {}) => fetch(`${server.http}/connection/init`, { method, headers });
  const plain = await ask('GET');
  assert.deepEqual([plain.status, await plain.text()], [200, '{}']);
  const page = await ask('GET', { Origin: PAGE });
  assert.equal(page.headers.get('access-control-allow-origin'), PAGE);
  assert.equal(page.headers.get('access-control-allow-credentials'), 'true');
  assert.equal((await ask('OPTIONS', { Origin: PAGE, 'Access-Control-Request-Method': 'GET' })).status, 204);
  assert.equal((await ask('GET', { Origin: 'https://evil.example' })).status, 403);
  assert.equal((await ask('POST')).status, 405);
});

for (const sdk of SDKS) {
  test(`a call that pings is answered, others are not (${sdk.name})`, async () => {
    const peer = await new Peer(sdk, server.ws, { token: token({ sub: '42' }) }).connect();
    await within(peer.client.rpc('ping', sdk.pack({})), 'the answer');
    await assert.rejects(peer.client.rpc('other', sdk.pack({})), { code: 108 });
    peer.client.disconnect();
  });
}
