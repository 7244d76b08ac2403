// The protocol at its edges, over a WebSocket by hand.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Raw, dial } from '../lib/raw.mjs';
import { Server } from '../lib/server.mjs';
import { channel, range, sleep, until, within } from '../lib/util.mjs';
import { Peer, SDKS } from '../lib/sdk.mjs';

let server;
before(async () => (server = await Server.start({ client: { allowed_origins: ['http://good.example'], allow_anonymous_connect_without_token: true } })));
after(() => server?.stop());

const open = (options) => Raw.connected(server.ws, options);

test('connect reply announces ping and pong', async () => {
  const raw = await open();
  const { connect } = raw.messages[0];
  assert.equal(connect.ping, 25);
  assert.equal(connect.pong, true);
  assert.ok(connect.version.length > 0);
  raw.end();
});

test('several commands in one frame are answered in their order', async () => {
  const raw = await Raw.open(server.ws);
  const name = channel();
  raw.send(
    { id: 1, connect: {} },
    { id: 2, subscribe: { channel: name } },
    { id: 3, publish: { channel: name, data: { n: 1 } } },
    { id: 4, publish: { channel: name, data: { n: 2 } } },
    { id: 5, presence_stats: { channel: name } },
    { id: 6, history: { channel: name, limit: 10 } },
    { id: 7, unsubscribe: { channel: name } },
  );
  await raw.reply(7);
  const find = (id) => raw.messages.find((m) => m.id === id);
  assert.equal(raw.messages[0].id, 1, 'connect is answered first');
  assert.deepEqual(find(5).presence_stats, { num_clients: 1, num_users: 1 });
  assert.deepEqual(find(6).history.publications.map((p) => p.data.n), [1, 2]);
  assert.deepEqual(find(7).unsubscribe, {});
  const pushes = raw.messages.filter((m) => m.push?.pub).map((m) => m.push.pub.data.n);
  assert.deepEqual(pushes, [1, 2]);
  const subscribed = raw.messages.findIndex((m) => m.id === 2);
  assert.ok(raw.messages.findIndex((m) => m.push) > subscribed, 'the subscribe reply precedes every push');
  raw.end();
});

test('data comes back byte for byte', async () => {
  const raw = await open();
  const name = channel();
  const data = '{"x": [1,\t2] , "y":"<b>&\\u00e9é", "big":12345678901234567890, "e":1E+2}';
  await raw.call({ id: 2, subscribe: { channel: name } });
  raw.send(`{"id":3,"publish":{"channel":"${name}","data":${data}}}`);
  await raw.reply(3);
  await until(() => raw.frames.some((f) => f.includes(`"data":${data}`)), 'the exact source text');
  raw.end();
});

test('unknown fields are ignored', async () => {
  const raw = await open();
  const answer = await raw.call({ id: 2, extra: { a: [1, '}'] }, presence_stats: { channel: channel(), more: null } });
  assert.equal(answer.presence_stats.num_clients, 0);
  raw.end();
});

describe('errors that leave the connection open', () => {
  for (const [what, command, code] of [
    ['subscribe twice', (name) => ({ id: 3, subscribe: { channel: name } }), 105],
    ['publish without data', (name) => ({ id: 3, publish: { channel: name } }), 107],
    ['history reverse since 0', (name) => ({ id: 3, history: { channel: name, limit: 1, reverse: true, since: { offset: 0, epoch: '' } } }), 107],
    ['rpc', () => ({ id: 3, rpc: { method: 'x', data: {} } }), 108],
    ['presence in an unknown namespace', () => ({ id: 3, presence: { channel: 'nowhere:x' } }), 102],
  ]) {
    test(`${what} gives ${code}`, async () => {
      const raw = await open();
      const name = channel();
      await raw.call({ id: 2, subscribe: { channel: name } });
      const answer = await raw.call(command(name));
      assert.equal(answer.error?.code, code, JSON.stringify(answer));
      assert.ok(answer.error.message.length > 0);
      assert.deepEqual((await raw.call({ id: 4, unsubscribe: { channel: name } })).unsubscribe, {});
      raw.end();
    });
  }

  test('unsubscribe from a channel never subscribed is fine', async () => {
    const raw = await open();
    assert.deepEqual((await raw.call({ id: 2, unsubscribe: { channel: channel() } })).unsubscribe, {});
    raw.end();
  });

  test('more than 128 channels gives 106', async () => {
    const raw = await open();
    raw.send(...range(2, 129).map((id) => ({ id, subscribe: { channel: `plain:limit-${id}` } })));
    assert.ok((await raw.reply(129)).subscribe, 'the 128th');
    assert.equal((await raw.call({ id: 200, subscribe: { channel: 'plain:one-more' } })).error.code, 106);
    raw.end();
  });
});

describe('what closes the connection', () => {
  for (const [what, sent, code] of [
    ['garbage', ['garbage'], 3501],
    ['an empty message', [''], 3501],
    ['an empty line between commands', ['{"id":5,"presence_stats":{"channel":"chat:x"}}\n\n{"id":6,"presence_stats":{"channel":"chat:x"}}'], 3501],
    ['a second connect', ['{"id":2,"connect":{}}'], 3501],
    ['a pong nobody asked for', ['{}'], 3501],
    ['a command without a request', ['{"id":2}'], 3501],
    ['a ping request', ['{"id":2,"ping":{}}'], 3501],
    ['subscribe to ""', ['{"id":2,"subscribe":{"channel":""}}'], 3501],
    ['a command without id', ['{"subscribe":{"channel":"chat:x"}}'], 3501],
    ['a message of 70 KB', [`{"id":2,"publish":{"channel":"chat:x","data":"${'x'.repeat(70_000)}"}}`], 1009],
  ]) {
    test(`${what}: ${code}`, async () => {
      const raw = await open();
      raw.send(...sent);
      assert.equal((await raw.ended()).code, code);
    });
  }

  test('a command before connect: 3501', async () => {
    const raw = await Raw.open(server.ws);
    raw.send({ id: 1, subscribe: { channel: channel() } });
    const { code, reason } = await raw.ended();
    assert.equal(code, 3501);
    assert.equal(reason, 'bad request');
  });

  test('commands of the frame before the bad one are answered', async () => {
    const raw = await open();
    raw.send({ id: 2, presence_stats: { channel: channel() } }, 'garbage');
    assert.equal((await raw.ended()).code, 3501);
    assert.ok(raw.messages.some((m) => m.id === 2));
  });

  test('a message just below the limit passes', async () => {
    const raw = await open();
    const name = channel();
    const shell = JSON.stringify({ id: 2, publish: { channel: name, data: '' } }).length;
    const answer = await raw.call({ id: 2, publish: { channel: name, data: 'x'.repeat(65_536 - shell) } });
    assert.deepEqual(answer.publish, {});
    raw.end();
  });
});

describe('handshake', () => {
  const headers = {
    Upgrade: 'websocket',
    Connection: 'Upgrade',
    'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
    'Sec-WebSocket-Version': '13',
  };
  const upgrade = async (changes, path = '/connection/websocket') => {
    const socket = await dial(server.port);
    const lines = Object.entries({ Host: '127.0.0.1', ...headers, ...changes }).filter(([, v]) => v !== null);
    socket.write(`GET ${path} HTTP/1.1\r\n${lines.map(([k, v]) => `${k}: ${v}`).join('\r\n')}\r\n\r\n`);
    let head = '';
    socket.on('data', (chunk) => (head += chunk.toString('latin1')));
    await until(() => head.includes('\r\n\r\n') || socket.isGone, 'answer to the handshake');
    socket.destroy();
    return { status: Number(head.split(' ')[1]), head: head.toLowerCase() };
  };

  test('accept key of RFC 6455', async () => {
    const { status, head } = await upgrade({});
    assert.equal(status, 101);
    assert.ok(head.includes('sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo='), head);
    assert.ok(!head.includes('sec-websocket-protocol'));
  });

  test('protobuf subprotocol is taken', async () => {
    const { status, head } = await upgrade({ 'Sec-WebSocket-Protocol': 'centrifuge-protobuf' });
    assert.equal(status, 101);
    assert.ok(head.includes('sec-websocket-protocol: centrifuge-protobuf'), head);
  });

  for (const [what, changes, status, path] of [
    ['an allowed origin', { Origin: 'http://good.example' }, 101],
    ['a foreign origin', { Origin: 'http://evil.example' }, 403],
    ['an origin with another port', { Origin: 'http://good.example:81' }, 403],
    ['an unknown query parameter', {}, 101, '/connection/websocket?cf_protocol_version=v2'],
    ['a trailing slash', {}, 404, '/connection/websocket/'],
  ]) {
    test(`${what}: ${status}`, async () => {
      assert.equal((await upgrade(changes, path)).status, status);
    });
  }
});

describe('ping and pong', { concurrency: true }, () => {
  let pinging;
  before(async () => {
    pinging = await Server.start({
      client: { allowed_origins: ['*'], allow_anonymous_connect_without_token: true, ping_interval: '2s', pong_timeout: '1900ms', stale_close_delay: '2s' },
    });
  });
  after(() => pinging.stop());

  for (const sdk of SDKS) {
    test(`${sdk.name}: connection stays over several intervals`, async () => {
      const peer = await new Peer(sdk, pinging.ws).connect();
      await sleep(7_000);
      assert.equal(peer.connecting.length, 1);
      assert.equal((await peer.client.presenceStats(channel())).numClients, 0);
      peer.close();
    });
  }

  test('pings come, and answered they keep the connection', async () => {
    const raw = await Raw.connected(pinging.ws);
    assert.equal(raw.messages[0].connect.ping, 2);
    await until(() => raw.pings >= 3, 'three pings');
    assert.equal(raw.close, undefined);
    raw.end();
  });

  test('no pong: 3012', async () => {
    const raw = await Raw.connected(pinging.ws, { answerPings: false });
    const { code, reason } = await raw.ended();
    assert.equal(code, 3012);
    assert.equal(reason, 'no pong');
    assert.equal(raw.pings, 1);
  });

  test('a second pong to one ping: 3501', async () => {
    const raw = await Raw.connected(pinging.ws);
    await until(() => raw.pings >= 1, 'a ping');
    raw.send({});
    assert.equal((await raw.ended()).code, 3501);
  });

  test('no connect command: 3502', async () => {
    const raw = await Raw.open(pinging.ws);
    assert.equal((await raw.ended()).code, 3502);
  });

  test('a WebSocket ping is answered by a pong', async () => {
    const raw = await Raw.connected(pinging.ws);
    const pong = new Promise((resolve) => raw.socket.once('pong', (data) => resolve(data.toString())));
    raw.socket.ping('are you there');
    assert.equal(await within(pong, 'pong'), 'are you there');
    raw.end();
  });
});
