// The server API of maps over HTTP, as a backend uses it.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Server } from '../lib/server.mjs';
import { channel, range } from '../lib/util.mjs';

const map = { mode: 'recoverable', key_ttl: '60s' };
const config = {
  channel: {
    namespaces: [
      { name: 'maps', subscription_type: 'map', map: { ...map, stream_size: 50 } },
      { name: 'brief', subscription_type: 'map', map: { ...map, stream_size: 2 } },
      { name: 'ranks', subscription_type: 'map', map: { mode: 'persistent', ordered: true } },
      { name: 'rooms' },
    ],
  },
};

let server;
before(async () => {
  server = await Server.start(config);
});
after(() => server?.stop());

const errorOf = async (method, body) => {
  const response = await server.request(method, body);
  assert.equal(response.status, 200);
  return (await response.json()).error?.code;
};

/** One map and its calls; `set` and `remove` take what the call has beside channel and key. */
function mapOf(name) {
  const call = (method) => (body = {}) => server.api(method, { channel: name, ...body });
  const [publish, remove] = [call('map_publish'), call('map_remove')];
  return {
    name,
    set: (key, body = {}) => publish({ key, data: { n: 1 }, ...body }),
    remove: (key, body = {}) => remove({ key, ...body }),
    state: call('map_read_state'),
    stream: call('map_read_stream'),
    stats: call('map_stats'),
    clear: call('map_clear'),
  };
}

const keys = ({ entries }) => entries.map((entry) => entry.key);

test('entries are set unless something says otherwise', async () => {
  const it = mapOf(channel('maps'));
  const { offset, epoch } = await it.set('a');
  assert.equal(offset, 1);
  const left = (at, reason) => ({ offset: at, epoch, suppressed: true, suppress_reason: reason });
  assert.deepEqual(await it.set('a', { key_mode: 'if_new' }), left(1, 'key_exists'));
  assert.deepEqual(await it.set('b', { key_mode: 'if_exists' }), left(1, 'key_not_found'));
  assert.deepEqual(await it.set('a', { key_mode: 'if_exists', version: 5 }), { offset: 2, epoch });
  assert.deepEqual(await it.set('a', { version: 5 }), left(2, 'version'));
  assert.deepEqual(await it.set('a', { version: 1, version_epoch: 'another' }), { offset: 3, epoch });
  assert.deepEqual(await it.set('b', { idempotency_key: 'once' }), { offset: 4, epoch });
  await it.set('c');
  assert.deepEqual(await it.set('b', { idempotency_key: 'once' }), left(4, 'idempotency'));
  assert.deepEqual(await it.remove('a', { idempotency_key: 'gone' }), { offset: 6, epoch });
  assert.deepEqual(await it.remove('a', { idempotency_key: 'gone' }), left(6, 'idempotency'));
  assert.deepEqual(await it.remove('a'), left(6, 'key_not_found'));
  assert.deepEqual(await it.stats(), { num_keys: 2 });
  assert.equal(await errorOf('map_publish', { channel: it.name, key: 'a', data: 1, key_mode: 'never' }), 107);
});

test('an entry is told with all that was set, and when', async () => {
  const it = mapOf(channel('maps'));
  const from = Date.now();
  await it.set('a', { data: { n: 1 }, tags: { t: 'x' }, score: -5 });
  await it.set('b', { data: undefined, b64data: Buffer.from([0, 255]).toString('base64') });
  await it.remove('b');
  const { entries, offset, epoch } = await it.stream({ limit: -1 });
  for (const { time } of entries) assert.ok(time >= from - 1000 && time <= Date.now() + 1000, `${time}`);
  const told = entries.map(({ time, ...rest }) => rest);
  const a = { key: 'a', data: { n: 1 }, offset: 1, tags: { t: 'x' }, score: -5 };
  assert.deepEqual(told, [a, { key: 'b', b64data: 'AP8=', offset: 2 }, { key: 'b', offset: 3, removed: true }]);
  assert.equal(offset, 3);
  assert.deepEqual(await it.state({ key: 'a' }), { entries: [entries[0]], offset: 3, epoch });
  assert.deepEqual(await it.state({ key: 'b' }), { entries: [], offset: 3, epoch });
  assert.deepEqual(await it.state({ limit: -1 }), { entries: [entries[0]], offset: 3, epoch });
  // Without a limit the place alone.
  assert.deepEqual(await it.state(), { entries: [], offset: 3, epoch });
});

test('the stream may be told something else', async () => {
  const it = mapOf(channel('maps'));
  await it.set('a', { data: { sum: 3 }, stream_data: { add: 3 } });
  await it.set('a', { data: { sum: 5 }, b64stream_data: Buffer.from('{"add":2}').toString('base64') });
  await it.set('a', { data: { sum: 7 } });
  assert.deepEqual((await it.state({ key: 'a' })).entries[0].data, { sum: 7 });
  await it.set('a', { data: { sum: 8 }, stream_data: { add: 1 } });
  const { entries } = await it.state({ limit: -1 });
  assert.deepEqual([entries[0].data, entries[0].offset], [{ sum: 8 }, 4]);
  const told = (await it.stream({ limit: -1 })).entries.map(({ data }) => data);
  assert.deepEqual(told, [{ add: 3 }, { add: 2 }, { sum: 7 }, { add: 1 }]);
  const binary = { channel: it.name, key: 'a', data: 1, b64stream_data: 'AP8=' };
  assert.equal(await errorOf('map_publish', binary), 107);
});

test('the state comes in pages', async () => {
  const it = mapOf(channel('maps'));
  const want = range(10, 34).map((n) => `k${n}`);
  for (const key of want) await it.set(key);
  const first = await it.state({ limit: 10 });
  assert.deepEqual(keys(first), want.slice(0, 10));
  // What changes now is in the stream: an entry ahead, one behind, a new one.
  await it.set('k30', { data: 2 });
  await it.remove('k10');
  await it.set('k35');
  const revision = { revision_offset: first.offset, revision_epoch: first.epoch };
  const second = await it.state({ limit: 10, cursor: first.cursor, ...revision });
  assert.deepEqual(keys(second), want.slice(10, 20));
  const third = await it.state({ limit: 10, cursor: second.cursor, ...revision });
  assert.deepEqual(keys(third), ['k31', 'k32', 'k33', 'k34']);
  assert.equal(third.cursor, undefined);
  assert.deepEqual([third.offset, third.epoch], [first.offset, first.epoch]);
  const since = await it.stream({ since_offset: first.offset, since_epoch: first.epoch, limit: -1 });
  assert.deepEqual(keys(since), ['k30', 'k10', 'k35']);
  assert.equal(await errorOf('map_read_state', { channel: it.name, limit: 10, revision_offset: 1, revision_epoch: 'another' }), 112);
});

test('the state comes in the order of scores where the options say so', async () => {
  const it = mapOf(channel('ranks'));
  const scores = { a: 1, b: 3, c: 3, d: -2, e: 0 };
  for (const [key, score] of Object.entries(scores)) await it.set(key, { score });
  for (const [asc, want] of [[false, 'cbaed'], [true, 'deabc']]) {
    const pages = [];
    for (let cursor = ''; cursor !== undefined; ({ cursor } = pages.at(-1))) {
      pages.push(await it.state({ limit: 2, cursor, asc }));
    }
    assert.equal(pages.length, 3);
    assert.equal(pages.flatMap(keys).join(''), want);
  }
  await it.set('d', { score: 9 });
  assert.deepEqual(keys(await it.state({ limit: 1 })), ['d']);
  assert.equal(await errorOf('map_read_state', { channel: it.name, limit: 1, cursor: 'no such' }), 107);
});

describe('the stream', () => {
  test('from a place on, either way', async () => {
    const it = mapOf(channel('maps'));
    const { epoch } = await it.set('k1');
    for (const n of range(2, 5)) await it.set(`k${n}`);
    const read = async (body) => {
      const found = await it.stream({ since_epoch: epoch, ...body });
      assert.deepEqual([found.offset, found.epoch], [5, epoch]);
      return keys(found);
    };
    assert.deepEqual(await read({ since_offset: 2, limit: 2 }), ['k3', 'k4']);
    assert.deepEqual(await read({ since_offset: 2, limit: -1 }), ['k3', 'k4', 'k5']);
    assert.deepEqual(await read({ since_offset: 3, limit: -1, reverse: true }), ['k2', 'k1']);
    assert.deepEqual(await read({ since_offset: 5, limit: -1 }), []);
    assert.deepEqual(await read({ since_offset: 1 }), [], 'without a limit the place alone');
    assert.deepEqual(keys(await it.stream({ limit: 2, reverse: true })), ['k5', 'k4']);
    assert.equal(await errorOf('map_read_stream', { channel: it.name, limit: 1, since_offset: 1, since_epoch: 'another' }), 112);
  });

  test('keeps what the options say', async () => {
    const it = mapOf(channel('brief'));
    for (const n of range(1, 5)) await it.set(`k${n}`);
    assert.deepEqual(keys(await it.stream({ limit: -1 })), ['k4', 'k5']);
    assert.equal(keys(await it.state({ limit: -1 })).length, 5);
  });
});

test('a cleared map begins anew', async () => {
  const it = mapOf(channel('maps'));
  const { epoch } = await it.set('a');
  assert.deepEqual(await it.clear(), {});
  assert.deepEqual(await it.stats(), { num_keys: 0 });
  const stream = await it.stream({ limit: -1 });
  assert.deepEqual([stream.entries, stream.offset], [[], 0]);
  assert.notEqual(stream.epoch, epoch);
  assert.equal((await it.set('a')).offset, 1);
});

test('what is no map is not available', async () => {
  const calls = ['map_publish', 'map_remove', 'map_read_state', 'map_read_stream', 'map_stats', 'map_clear'];
  for (const method of calls) {
    assert.equal(await errorOf(method, { channel: channel('rooms'), key: 'k', data: 1 }), 108, method);
    assert.equal(await errorOf(method, { channel: 'nowhere:x', key: 'k', data: 1 }), 102, method);
    assert.equal(await errorOf(method, { key: 'k', data: 1 }), 107, method);
  }
  for (const method of calls.slice(0, 2)) {
    assert.equal(await errorOf(method, { channel: channel('maps'), data: 1 }), 107, method);
  }
});
