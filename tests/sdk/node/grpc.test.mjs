// Clients that only listen by gRPC: grpc-js, and a client made from `schema/unistream.proto`.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import * as grpc from '@grpc/grpc-js';
import { CODES, Listener, said, start } from '../lib/grpc.mjs';
import { Server, open } from '../lib/server.mjs';
import { token } from '../lib/token.mjs';
import { channel, range, until } from '../lib/util.mjs';

const sessions = async (server) => (await server.api('info', {})).nodes[0].num_clients;

let server;
before(async () => (server = await start()));
after(() => server?.stop());

test('anonymous, with the channels it wishes for, on both cores', async () => {
  const name = channel();
  const listeners = range(1, 4).map(() => new Listener(server.grpc, { subs: { [name]: {} } }));
  for (const listener of listeners) {
    const connect = await listener.connected();
    assert.deepEqual(Object.keys(connect.subs), [name]);
    assert.ok(connect.client && connect.session && connect.version && connect.ping === 25 && !connect.pong);
  }
  const data = range(1, 50).map((n) => ({ n, text: 'ü\n' }));
  for (const value of data) await server.publish(name, value);
  for (const listener of listeners) {
    await until(() => listener.publications.length === data.length, 'all publications');
    assert.deepEqual(listener.publications, data.map((value) => [name, value]));
  }
  const presence = await server.api('presence_stats', { channel: name });
  assert.equal(presence.num_clients, 4);
  listeners.forEach((listener) => listener.close());
  await until(async () => (await server.api('presence_stats', { channel: name })).num_clients === 0, 'gone');
});

test('with a token; a push of any size arrives whole; the API ends it', async () => {
  const name = channel();
  const listener = new Listener(server.grpc, { token: token({ sub: 'grpc', channels: [name] }) });
  assert.deepEqual(Object.keys((await listener.connected()).subs), [name]);
  for (const size of [0, 100, 127, 128, 16_300, 16_384, 70_000, 300_000]) {
    await server.publish(name, { text: 'x'.repeat(size) });
    await until(() => listener.publications.at(-1)?.[1].text.length === size, `${size} bytes`);
  }
  await server.api('unsubscribe', { user: 'grpc', channel: name });
  await until(() => listener.pushes.at(-1).unsubscribe?.code === 2000, 'the unsubscribe push');
  await server.api('disconnect', { user: 'grpc', disconnect: { code: 4501, reason: 'bye' } });
  assert.deepEqual(await listener.disconnected(), [4501, 'bye']);
  listener.close();
});

test('what was missed comes with the connect push, and the rest behind it', async () => {
  const name = channel();
  const first = new Listener(server.grpc, { subs: { [name]: {} } });
  const { epoch, offset } = (await first.connected()).subs[name];
  await server.publish(name, { n: 1 });
  await until(() => first.publications.length === 1, 'live');
  first.close();
  for (const n of [2, 3]) await server.publish(name, { n });
  const second = new Listener(server.grpc, { subs: { [name]: { recover: true, epoch, offset: (offset ?? 0) + 1 } } });
  const sub = (await second.connected()).subs[name];
  assert.deepEqual([sub.recovered, sub.publications.map(said)], [true, [{ n: 2 }, { n: 3 }]]);
  await server.publish(name, { n: 4 });
  await until(() => second.publications.length === 1, 'live again');
  assert.deepEqual(second.publications, [[name, { n: 4 }]]);
  second.close();
});

test('refusals are pushes, and the stream ends well', async () => {
  const rows = [
    [{ token: token({ sub: 'x' }, { secret: 'another' }) }, 3500],
    [{ token: token({ sub: 'x' }, { ttl: -10 }) }, 3005],
  ];
  for (const [request, code] of rows) {
    const listener = new Listener(server.grpc, request);
    assert.equal((await listener.disconnected())[0], code);
    assert.equal(listener.pushes.length, 1);
    listener.close();
  }
});

test('what is no request to Consume gets a status', async () => {
  const client = new grpc.Client(server.grpc, grpc.credentials.createInsecure());
  const call = (method, bytes) =>
    new Promise((resolve) => {
      const asIs = (value) => value;
      const stream = client.makeServerStreamRequest(method, asIs, asIs, bytes);
      const pushes = [];
      stream.on('data', (push) => pushes.push(push));
      stream.on('error', () => {});
      stream.on('status', ({ code }) => resolve({ code, pushes }));
    });
  const consume = '/centrifugal.centrifugo.unistream.CentrifugoUniStream/Consume';
  assert.equal((await call('/centrifugal.centrifugo.unistream.CentrifugoUniStream/Other', Buffer.of())).code, CODES.UNIMPLEMENTED);
  assert.equal((await call(consume, Buffer.alloc(65_537))).code, CODES.OUT_OF_RANGE);
  const garbage = await call(consume, Buffer.from([0x0a, 0xff]));
  assert.equal(garbage.code, CODES.OK);
  assert.match(garbage.pushes[0].toString('latin1'), /bad request/);
  client.close();
});

test('a client that does not read is cut, and the others miss nothing', async () => {
  const name = channel();
  const server = await start({
    client: { queue_max_size: 200_000 },
    websocket: { write_timeout: '1s' },
    channel: { without_namespace: open, namespaces: [{ name: 'chat', ...open, history_size: 0, history_ttl: '0s', force_recovery: false }] },
  });
  try {
    const slow = new Listener(server.grpc, { subs: { [name]: {} } }, { 'grpc.use_local_subchannel_pool': 1 });
    const quick = new Listener(server.grpc, { subs: { [name]: {} } }, { 'grpc.use_local_subchannel_pool': 1 });
    await Promise.all([slow.connected(), quick.connected()]);
    slow.call.pause();
    const text = 'x'.repeat(10_000);
    let sent = 0;
    const gone = async () => {
      for (let i = 0; i < 20; i++) await server.publish(name, { n: (sent += 1), text });
      return (await sessions(server)) === 1;
    };
    await until(gone, 'the slow one is cut');
    await until(() => quick.publications.length === sent, 'all publications');
    assert.deepEqual(quick.publications.map(([, { n }]) => n), range(1, sent));
    slow.call.resume();
    assert.equal((await slow.ended()).code, CODES.UNAVAILABLE);
    assert.ok(slow.publications.length < sent);
    [slow, quick].forEach((listener) => listener.close());
  } finally {
    await server.stop();
  }
});

test('limits on connections count its clients, by the address a proxy tells', async () => {
  const server = await start({
    client: { connection_limit_per_ip: 1 },
    http_server: { address: '127.0.0.1', trusted_proxies: ['127.0.0.1'] },
  });
  try {
    const one = new Listener(server.grpc);
    await one.connected();
    const two = new Listener(server.grpc);
    assert.equal((await two.ended()).code, CODES.UNAVAILABLE);
    one.close();
    await until(async () => (await sessions(server)) === 0, 'the first is gone');
    const three = new Listener(server.grpc);
    await three.connected();
    [two, three].forEach((listener) => listener.close());
  } finally {
    await server.stop();
  }
});

for (const how of ['start', 'startTls']) {
  test(`pings, and 3001 when the server ends (${how})`, async () => {
    const client = { ping_interval: '1s', pong_timeout: '500ms' };
    const server = await start({ client }, (overrides) => Server[how](overrides));
    try {
      const listeners = range(1, 4).map(() => new Listener(server.grpc));
      for (const listener of listeners) {
        await listener.connected();
        await until(() => listener.pings > 0, 'a ping');
      }
      server.stopped = true;
      assert.deepEqual(await server.terminate(), { code: 0, signal: null }, server.log);
      for (const listener of listeners) {
        assert.deepEqual(await listener.disconnected(), [3001, 'shutdown']);
        listener.close();
      }
    } finally {
      await server.stop();
    }
  });
}
