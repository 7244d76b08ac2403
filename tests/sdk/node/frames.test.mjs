// Frames byte for byte, in Protobuf and JSON, as Centrifugo 6.9.1 writes them; and clients named by their session.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import WebSocket from 'ws';
import { Raw } from '../lib/raw.mjs';
import { Peer } from '../lib/sdk.mjs';
import { Server } from '../lib/server.mjs';
import { SECRET, token } from '../lib/token.mjs';
import { FALLBACKS } from '../lib/transports.mjs';
import { channel, range, until, within } from '../lib/util.mjs';

let server;
before(async () => {
  const client = { ping_interval: '1s', pong_timeout: '500ms', allow_anonymous_connect_without_token: true };
  const enabled = { enabled: true };
  server = await Server.start({
    client: { ...client, token: { hmac_secret_key: SECRET } },
    runtime: { cores: 2 },
    http_stream: enabled,
    sse: enabled,
    uni_websocket: enabled,
    uni_sse: enabled,
    uni_http_stream: enabled,
  });
});
after(() => server?.stop());

const hex = (of) => Buffer.from(of).toString('hex');
/** `"0a02 <ch>"`: digits as they are, texts in their place. */
const bytes = (row, texts = {}) => row.replace(/<(\w+)>/g, (_, name) => hex(texts[name])).replaceAll(' ', '');

/** A WebSocket in Protobuf; `messages` are those nobody asked for yet, in hex with their lengths, without pings. */
async function binary({ pongs = true } = {}) {
  const socket = new WebSocket(server.ws, 'centrifuge-protobuf', { perMessageDeflate: false });
  const it = { socket, messages: [], pings: 0 };
  it.send = (row, texts) => socket.send(Buffer.from(bytes(row, texts), 'hex'));
  it.closed = new Promise((resolve) => socket.on('close', (code, reason) => resolve([code, reason.toString()])));
  socket.on('message', (data) => {
    // Every message here is shorter than 128 bytes: its length is one byte.
    for (let at = 0; at < data.length; at += 1 + data[at]) {
      const message = hex(data.subarray(at, at + 1 + data[at]));
      if (message !== '00') {
        it.messages.push(message);
      } else {
        it.pings += 1;
        if (pongs) it.send('00');
      }
    }
  });
  await within(new Promise((resolve, reject) => socket.on('open', resolve).on('error', reject)), 'open');
  /** The next messages are these, in any order: between a reply and a push nothing is promised. */
  it.gets = async (...rows) => {
    await until(() => it.messages.length >= rows.length, `${rows.length} messages`);
    assert.deepEqual(it.messages.splice(0, rows.length).sort(), rows.sort());
  };
  it.send('04 0801 2200');
  it.connected = await until(() => it.messages.shift(), 'the reply to connect');
  it.id = Buffer.from(it.connected, 'hex').subarray(7, 43).toString();
  return it;
}

test('Protobuf: what a client says and hears', async () => {
  const raw = await Raw.open(server.ws);
  const { version } = (await raw.call({ id: 1, connect: {} })).connect;
  raw.end();
  const it = await binary();
  const { id } = it;
  assert.match(id, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  const [whole, result, length] = [48, 44, 0].map((more) => hex([version.length + more]));
  assert.equal(it.connected, bytes(`${whole} 0801 2a${result} 0a24 <id> 12${length} <version> 3801 4001`, { id, version }));

  const ch = 'pb';
  const { epoch } = await server.api('history', { channel: ch, limit: 0 });
  const names = { ch, epoch, id };
  const publication = '2202 00ff 2a26 1224 <id> 3001 7208 <epoch>';
  const rows = [
    // Subscribe, publish, history with a limit of −1, presence statistics, rpc.
    ['08 0802 2a04 0a02 <ch>', '12 0802 320e 1801 3208 <epoch> 5001'],
    ['0c 0803 3a08 0a02 <ch> 1202 00ff', '04 0803 4200', `40 223e 1202 <ch> 2238 ${publication}`],
    ['13 0804 520f 0a02 <ch> 38 ffffffffffffffffff01', `4a 0804 5a46 0a38 ${publication} 1208 <epoch> 1801`],
    ['08 0805 4a04 0a02 <ch>', '08 0805 5204 0801 1001'],
    ['04 0806 6a00', '15 0806 1211 086c 120d <unavailable>'],
  ];
  for (const [said, ...heard] of rows) {
    it.send(said, names);
    await it.gets(...heard.map((row) => bytes(row, { ...names, unavailable: 'not available' })));
  }
  await server.api('publish', { channel: ch, data: 7, tags: { k: 'v' } });
  await it.gets(bytes('15 2213 1202 <ch> 220d 2201 37 3002 3a06 0a01 6b 1201 76', names));
  await server.api('unsubscribe', { user: '', client: id, channel: ch });
  await it.gets(bytes('1f 221d 1202 <ch> 3a17 10d00f 1a12 <reason>', { ch, reason: 'server unsubscribe' }));
  it.send('08 0807 3204 0a02 <ch>', names);
  await it.gets('0408073a00');
  await server.api('disconnect', { user: '', client: id, disconnect: { code: 4501, reason: 'bye' } });
  assert.deepEqual(await within(it.closed, 'close'), [4501, 'bye']);
});

test('JSON: a history with a limit of −1 is all of it', async () => {
  const name = channel();
  for (const n of range(1, 7)) await server.publish(name, n);
  const raw = await Raw.connected(server.ws);
  const { publications } = (await raw.call({ id: 2, history: { channel: name, limit: -1 } })).history;
  assert.deepEqual(publications.map(({ offset, data }) => [offset, data]), range(1, 7).map((n) => [n, n]));
  raw.end();
});

/** What an endless response says: `messages` are its lines, or the data of its events. */
async function listen(path, init) {
  const it = { messages: [], ended: false };
  const response = await fetch(`${server.http}/connection/${path}`, init);
  assert.equal(response.status, 200);
  const read = async () => {
    let text = '';
    for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
      const lines = (text + chunk).split('\n');
      text = lines.pop();
      it.messages.push(...lines.map((line) => line.replace(/^data: /, '').trim()).filter(Boolean));
    }
  };
  read().then(() => (it.ended = true), () => {});
  return it;
}

const query = (request) => `cf_connect=${encodeURIComponent(JSON.stringify(request))}`;
const post = (body, headers) => ({ method: 'POST', headers, body });
const CONNECT = { id: 1, connect: {} };

// Each waits for pings, one a second.
describe('pings', { concurrency: true }, () => {
  test('Protobuf: a ping is one zero, and so is the answer', async () => {
    const [answers, silent, talks] = [await binary(), await binary({ pongs: false }), await binary()];
    await until(() => talks.pings === 1, 'a ping');
    talks.send('00');
    assert.deepEqual(await within(talks.closed, 'close'), [3501, 'bad request'], 'an answer too many');
    assert.deepEqual(await within(silent.closed, 'close'), [3012, 'no pong']);
    await until(() => answers.pings >= 2, 'two pings');
    answers.send('04 0802 6a00');
    await answers.gets(bytes('15 0802 1211 086c 120d <text>', { text: 'not available' }));
    answers.socket.terminate();
  });

  for (const [kind, path, init] of [
    ['http_stream', 'http_stream', post(JSON.stringify(CONNECT))],
    ['sse', `sse?${query(CONNECT)}`],
  ]) {
    test(`${kind}: who does not answer a ping is told 3012 as the last push`, async () => {
      const it = await listen(path, init);
      await until(() => it.ended, 'the end');
      const [reply, ...rest] = it.messages;
      assert.match(reply, /^\{"id":1,"connect":\{"client":".*","ping":1,"pong":true,"session":"\w+","node":"[\w-]+"\}\}$/);
      assert.deepEqual(rest, ['{}', '{"push":{"disconnect":{"code":3012,"reason":"no pong"}}}']);
    });
  }

  test('http_stream in Protobuf: the same, byte for byte', async () => {
    const headers = { 'Content-Type': 'application/octet-stream' };
    const response = await fetch(`${server.http}/connection/http_stream`, post(Buffer.from('0408012200', 'hex'), headers));
    const told = hex(await within(response.arrayBuffer(), 'the end'));
    const last = bytes('00 10 220e 5a0c 08c417 1207 <reason>', { reason: 'no pong' });
    assert.equal(told.slice(-last.length), last);
  });
});

const LISTENERS = {
  uni_websocket: async (request) => {
    const it = { messages: [] };
    const socket = new WebSocket(server.ws.replace('/websocket', '/uni_websocket'));
    socket.on('open', () => socket.send(JSON.stringify(request)));
    socket.on('message', (data) => it.messages.push(data.toString()));
    return it;
  },
  uni_sse: (request) => listen(`uni_sse?${query(request)}`),
  uni_http_stream: (request) => listen('uni_http_stream', post(JSON.stringify(request))),
};
const now = () => Math.floor(Date.now() / 1000);

for (const [kind, start] of Object.entries(LISTENERS)) {
  test(`${kind}: the API finds a listener by its session, and no other`, async () => {
    const name = channel();
    const sub = `of ${name}`;
    const pushes = (it) => it.messages.map((message) => JSON.parse(message));
    const begin = async () => {
      const it = await start({ token: token({ sub, channels: [name] }) });
      const { session } = await until(() => pushes(it)[0]?.connect, 'the connect');
      it.acts = () => pushes(it).filter((push) => push.refresh || push.unsubscribe || push.disconnect);
      return Object.assign(it, { session });
    };
    const [one, other] = [await begin(), await begin()];
    const { session } = one;
    assert.notEqual(session, other.session);
    await server.api('disconnect', { user: 'another', session });
    await server.api('refresh', { user: sub, session, expire_at: now() + 600 });
    const [{ refresh }] = await until(() => one.acts().length === 1 && one.acts(), 'the refresh');
    assert.ok(refresh.expires && refresh.ttl > 590 && refresh.ttl <= 600, JSON.stringify(refresh));
    await server.api('unsubscribe', { user: sub, session, channel: name });
    await until(() => one.acts().length === 2, 'the unsubscribe');
    assert.deepEqual(one.acts()[1], { channel: name, unsubscribe: { code: 2000, reason: 'server unsubscribe' } });
    await server.publish(name, 1);
    await until(() => pushes(other).some((push) => push.pub), 'the other hears on');
    await server.api('refresh', { user: sub, session, expired: true });
    await until(() => one.acts().length === 3, 'the end');
    assert.deepEqual(one.acts()[2], { disconnect: { code: 3005, reason: 'connection expired' } });
    assert.deepEqual([other.acts(), pushes(one).filter((push) => push.pub)], [[], []]);
  });
}

for (const sdk of FALLBACKS) {
  test(`${sdk.name}: the API finds a client by its session, and no other`, async () => {
    const name = channel();
    const sub = `of ${name}`;
    const begin = () => new Peer(sdk, server.http, { token: token({ sub }) }).connect();
    const [one, other] = [await begin(), await begin()];
    const [room, stays] = [await one.join(name), await other.join(name)];
    const session = one.client._session;
    await server.api('unsubscribe', { user: sub, session, channel: name });
    await until(() => room.unsubscribed.length === 1, 'the unsubscribe');
    assert.equal(room.unsubscribed[0].code, 2000);
    await server.api('refresh', { user: sub, session, expired: true });
    await until(() => one.connecting.length === 2, 'the end');
    assert.equal(one.connecting[1].code, 3005);
    await until(() => one.client._session !== session && one.client.state === 'connected', 'back in another session');
    await server.api('disconnect', { user: sub, session: one.client._session });
    await until(() => one.disconnected.length === 1, 'the end for good');
    assert.deepEqual([one.disconnected[0].code, stays.unsubscribed.length, other.connecting.length], [3503, 0, 1]);
    other.close();
  });
}
