// The HTTP API: shapes, effects on connected clients, keys and errors.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { JSON_SDK, Peer } from '../lib/sdk.mjs';
import { API_KEY, Server } from '../lib/server.mjs';
import { channel, range, until } from '../lib/util.mjs';

let server;
let peer;
before(async () => {
  server = await Server.start();
  peer = await new Peer(JSON_SDK, server.ws).connect();
});
after(async () => {
  peer.close();
  await server?.stop();
});

const answer = async (method, body, headers) => {
  const response = await server.request(method, body, headers);
  return { status: response.status, body: await response.text() };
};

const errorOf = async (method, body) => {
  const { status, body: text } = await answer(method, body);
  assert.equal(status, 200, text);
  return JSON.parse(text).error;
};

describe('key', () => {
  for (const [what, headers, query, status] of [
    ['none', {}, '', 401],
    ['wrong', { 'X-API-Key': 'wrong' }, '', 401],
    ['a prefix of it', { 'X-API-Key': API_KEY.slice(0, -1) }, '', 401],
    ['empty', { 'X-API-Key': '' }, '', 401],
    ['X-API-Key', { 'X-API-Key': API_KEY }, '', 200],
    ['Authorization', { Authorization: `apikey ${API_KEY}` }, '', 200],
    ['wrong Authorization', { Authorization: 'apikey wrong' }, '', 401],
    ['query parameter', {}, `?api_key=${API_KEY}`, 200],
  ]) {
    test(`${what}: ${status}`, async () => {
      assert.equal((await answer(`info${query}`, {}, headers)).status, status);
    });
  }
});

describe('HTTP errors', () => {
  test('GET: 405', async () => {
    const response = await fetch(`${server.http}/api/publish`, { headers: { 'X-API-Key': API_KEY } });
    assert.equal(response.status, 405);
  });
  test('unknown method: 404', async () => assert.equal((await answer('nope', {})).status, 404));
  test('malformed JSON: 400', async () => assert.equal((await answer('publish', '{"channel":')).status, 400));
  test('error mode "transport": status and bare error', async () => {
    const headers = { 'X-API-Key': API_KEY, 'X-Centrifugo-Error-Mode': 'transport' };
    const { status, body } = await answer('publish', { channel: 'nowhere:x', data: 1 }, headers);
    assert.equal(status, 404);
    assert.deepEqual(JSON.parse(body), { code: 102, message: 'unknown channel' });
  });
});

describe('publish', () => {
  test('reaches the subscribers, with its tags', async () => {
    const name = channel();
    const room = await peer.join(name);
    const first = await server.api('publish', { channel: name, data: { a: 1 }, tags: { k: 'v' } });
    assert.equal(first.offset, 1);
    assert.ok(first.epoch.length > 0);
    await until(() => room.data.length === 1, 'publication');
    assert.deepEqual(room.data, [{ a: 1 }]);
    assert.deepEqual(room.publications[0].tags, { k: 'v' });
    assert.equal(room.publications[0].info, undefined);
    assert.deepEqual(await server.api('publish', { channel: name, data: 2 }), { offset: 2, epoch: first.epoch });
  });
  test('without history: an empty result', async () => {
    assert.deepEqual(await server.api('publish', { channel: channel('plain'), data: 1 }), {});
  });
  test('skip_history', async () => {
    const name = channel();
    const room = await peer.join(name);
    await server.api('publish', { channel: name, data: 'now', skip_history: true });
    await until(() => room.data.length === 1, 'publication');
    assert.deepEqual((await server.api('history', { channel: name, limit: 10 })).publications, []);
  });
  test('the same idempotency key publishes once', async () => {
    const name = channel();
    const room = await peer.join(name);
    const body = { channel: name, data: 1, idempotency_key: 'once' };
    const first = await server.api('publish', body);
    assert.deepEqual(await server.api('publish', body), first);
    await server.publish(name, 2);
    await until(() => room.data.length === 2, 'publications');
    assert.deepEqual(room.data, [1, 2]);
  });
  test('no channel: 107', async () => {
    assert.deepEqual(await errorOf('publish', { data: 1 }), { code: 107, message: 'bad request' });
  });
  test('no data: 107', async () => assert.equal((await errorOf('publish', { channel: channel() })).code, 107));
  test('unknown namespace: 102', async () => {
    assert.deepEqual(await errorOf('publish', { channel: 'nowhere:x', data: 1 }), { code: 102, message: 'unknown channel' });
  });
});

test('broadcast answers in order, an error beside results', async () => {
  const names = range(1, 5).map(() => channel());
  const rooms = await Promise.all(names.map((name) => peer.join(name)));
  const channels = [names[0], 'nowhere:x', ...names.slice(1)];
  const { responses } = await server.api('broadcast', { channels, data: { all: true } });
  assert.deepEqual(responses[1], { error: { code: 102, message: 'unknown channel' } });
  for (const at of [0, 2, 3, 4, 5]) assert.equal(responses[at].result.offset, 1);
  await until(() => rooms.every((room) => room.data.length === 1), 'a publication in each');
  assert.equal((await errorOf('broadcast', { channels: [], data: 1 })).code, 107);
});

test('subscribe, presence, unsubscribe', async () => {
  const name = channel();
  const one = await new Peer(JSON_SDK, server.ws).connect();
  assert.deepEqual(await server.api('subscribe', { user: '', client: one.id, channel: name }), {});
  const { presence } = await until(async () => {
    const result = await server.api('presence', { channel: name });
    return Object.keys(result.presence).length === 1 && result;
  }, 'present');
  assert.deepEqual(presence[one.id], { user: '', client: one.id });
  assert.deepEqual(await server.api('presence_stats', { channel: name }), { num_clients: 1, num_users: 1 });
  assert.deepEqual(await server.api('unsubscribe', { user: '', client: one.id, channel: name }), {});
  await until(async () => (await server.api('presence_stats', { channel: name })).num_clients === 0, 'gone');
  assert.deepEqual((await server.api('presence', { channel: name })).presence, {});
  one.close();
});

test('unsubscribe ends a client-side subscription with 2000', async () => {
  const name = channel();
  const one = await new Peer(JSON_SDK, server.ws).connect();
  const room = await one.join(name);
  await server.api('unsubscribe', { user: '', client: one.id, channel: name });
  const context = await until(() => room.unsubscribed[0], 'unsubscribed');
  assert.equal(context.code, 2000);
  assert.equal(one.connecting.length, 1);
  one.close();
});

test('disconnect: 3503 unless another code is given, and only who is meant', async () => {
  const [one, other] = [await new Peer(JSON_SDK, server.ws).connect(), await new Peer(JSON_SDK, server.ws).connect()];
  assert.deepEqual(await server.api('disconnect', { user: '', client: one.id }), {});
  const context = await until(() => one.disconnected[0], 'disconnected');
  assert.equal(context.code, 3503);
  assert.equal(context.reason, 'force disconnect');
  assert.equal((await other.client.presenceStats(channel())).numClients, 0, 'the other is still there');
  other.close();
});

describe('history', () => {
  let name;
  let epoch;
  before(async () => {
    name = channel();
    for (const n of range(1, 6)) await server.api('publish', { channel: name, data: { n }, tags: { n: String(n) } });
    ({ epoch } = await server.api('history', { channel: name, limit: 0 }));
  });
  const read = async (fields) => {
    const result = await server.api('history', { channel: name, ...fields });
    assert.equal(result.offset, 6);
    assert.equal(result.epoch, epoch);
    return result.publications.map((p) => p.offset);
  };
  test('limit 0 is the position alone', async () => assert.deepEqual(await read({}), []));
  test('all', async () => assert.deepEqual(await read({ limit: -1 }), range(1, 6)));
  test('limit', async () => assert.deepEqual(await read({ limit: 2 }), [1, 2]));
  test('since', async () => assert.deepEqual(await read({ limit: 9, since: { offset: 4, epoch } }), [5, 6]));
  test('reverse', async () => assert.deepEqual(await read({ limit: 2, reverse: true }), [6, 5]));
  test('data and tags', async () => {
    const { publications } = await server.api('history', { channel: name, limit: 1 });
    assert.deepEqual(publications, [{ data: { n: 1 }, offset: 1, tags: { n: '1' } }]);
  });
  test('wrong epoch: 112', async () => {
    assert.deepEqual(await errorOf('history', { channel: name, limit: 1, since: { offset: 1, epoch: 'zz' } }), {
      code: 112,
      message: 'unrecoverable position',
    });
  });
  test('a channel without history: 108', async () => assert.equal((await errorOf('history', { channel: 'plain:x' })).code, 108));
  test('history_remove', async () => {
    const gone = channel();
    await server.publish(gone, 1);
    assert.deepEqual(await server.api('history_remove', { channel: gone }), {});
    assert.deepEqual((await server.api('history', { channel: gone, limit: 9 })).publications, []);
  });
});

test('presence that is off: 108', async () => {
  assert.equal((await errorOf('presence', { channel: 'plain:x' })).code, 108);
  assert.equal((await errorOf('presence_stats', { channel: 'plain:x' })).code, 108);
});

test('channels, with and without a pattern', async () => {
  const mark = `list-${process.pid}`;
  const one = await new Peer(JSON_SDK, server.ws).connect();
  const names = range(1, 6).map((n) => `chat:${mark}-${n}`);
  for (const name of names) await one.join(name);
  await peer.join(names[0]);
  const { channels } = await server.api('channels', { pattern: `chat:${mark}-*` });
  assert.deepEqual(Object.keys(channels).sort(), names);
  assert.deepEqual(channels[names[0]], { num_clients: 2 });
  assert.deepEqual(channels[names[1]], { num_clients: 1 });
  const all = (await server.api('channels', {})).channels;
  assert.ok(names.every((name) => name in all));
  one.close();
  await until(async () => Object.keys((await server.api('channels', { pattern: `chat:${mark}-*` })).channels).length === 1, 'only the shared one');
});

test('info', async () => {
  const { nodes } = await server.api('info', {});
  assert.equal(nodes.length, 1);
  const [node] = nodes;
  assert.ok(node.uid.length > 0 && node.name.length > 0 && node.version.length > 0);
  assert.ok(node.num_clients >= 1);
  for (const key of ['num_users', 'num_subs', 'num_channels']) assert.equal(typeof node[key], 'number', key);
});

test('batch: no result wrapper, errors in place', async () => {
  const name = channel();
  const response = await server.request('batch', {
    commands: [
      { publish: { channel: name, data: 1 } },
      { publish: { channel: 'nowhere:x', data: 1 } },
      { presence_stats: { channel: name } },
      {},
    ],
  });
  assert.equal(response.status, 200);
  const { replies } = await response.json();
  assert.equal(replies.length, 4);
  assert.equal(replies[0].publish.offset, 1);
  assert.equal(replies[1].error.code, 102);
  assert.deepEqual(replies[2].presence_stats, { num_clients: 0, num_users: 0 });
  assert.equal(replies[3].error.code, 104);
});

test('many calls at once over kept connections', async () => {
  const name = channel();
  const results = await Promise.all(range(1, 90).map((n) => server.publish(name, { n })));
  assert.deepEqual(results.map((r) => r.offset).sort((a, b) => a - b), range(1, 90));
});

test('health and metrics', async () => {
  assert.equal((await fetch(`${server.http}/health`)).status, 200);
  const metrics = await fetch(`${server.http}/metrics`);
  assert.equal(metrics.status, 200);
  assert.match(await metrics.text(), /^# TYPE \w+ (counter|gauge|histogram|summary)$/m);
});
