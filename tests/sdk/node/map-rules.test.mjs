// Maps beyond their pages: which entries a client may set, which go with it, who is in a channel, what the API reads and clears.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Peer, SDKS } from '../lib/sdk.mjs';
import { Server } from '../lib/server.mjs';
import { SECRET, token } from '../lib/token.mjs';
import { channel, range, until } from '../lib/util.mjs';

const come = { allow_subscribe_for_client: true, allow_subscribe_for_anonymous: true };
const set = {
  allow_publish_for_client: true,
  allow_publish_for_anonymous: true,
  allow_remove_for_client: true,
  allow_remove_for_anonymous: true,
};
const map = (name, options, subscription_type = 'map') => ({
  name,
  subscription_type,
  ...come,
  map: { mode: 'recoverable', key_ttl: '60s', ...options },
});
const namespaces = [
  map('board', set),
  map('cursors', { ...set, client_key: 'client_id', remove_client_on_unsubscribe: true }),
  map('profiles', { ...set, client_key: 'user_id' }),
  map('full', { ...set, keys_max: 2 }),
  map('users', { key_ttl: '300ms' }, 'map_users'),
  { name: 'lobby', ...come, map_users_presence_channel_prefix: 'users:' },
];

let server;
before(async () => {
  const client = { allow_anonymous_connect_without_token: true, token: { hmac_secret_key: SECRET } };
  server = await Server.start({ client, runtime: { cores: 2 }, channel: { namespaces } });
});
after(() => server?.stop());

let last = 0;
const unique = () => `${process.pid}-${(last += 1)}`;

/** What the client sees of a map: its entries, and how often it was told all of them. */
async function watch(peer, name, make = 'newMapSubscription') {
  const sub = peer.client[make](name, { minResubscribeDelay: 20, maxResubscribeDelay: 100 });
  const it = { sub, entries: new Map(), syncs: 0, codes: [] };
  sub.on('sync', ({ entries }) => {
    it.syncs += 1;
    it.entries = new Map(entries.map((entry) => [entry.key, entry]));
  });
  sub.on('update', (entry) => (entry.removed ? it.entries.delete(entry.key) : it.entries.set(entry.key, entry)));
  sub.on('subscribing', ({ code }) => it.codes.push(code));
  it.values = () => Object.fromEntries([...it.entries].map(([key, { data }]) => [key, peer.sdk.unpack(data)]));
  it.keys = () => [...it.entries.keys()].sort();
  sub.subscribe();
  await until(() => it.syncs === 1, `the state of ${name}`);
  return it;
}

const keysOf = async (name) => {
  const { entries } = await server.api('map_read_state', { channel: name, limit: 100 });
  return entries.map((entry) => entry.key);
};

for (const sdk of SDKS) {
  describe(sdk.name, () => {
    const peers = [];
    after(() => peers.forEach((it) => it.close()));
    const peer = async (sub) => {
      peers.push(await new Peer(sdk, server.ws, sub ? { token: token({ sub }) } : {}).connect());
      return peers.at(-1);
    };

    test('an entry of a client has its id as key, and goes with its subscription', async () => {
      const name = channel('cursors');
      const [one, two, watcher] = [await peer(), await peer(), await peer()];
      const [first, second, it] = [await watch(one, name), await watch(two, name), await watch(watcher, name)];
      await first.sub.publish('whatever', sdk.pack({ x: 1 }));
      await second.sub.publish(one.id, sdk.pack({ x: 2 }));
      await until(() => it.entries.size === 2, 'both entries');
      assert.deepEqual(it.values(), { [one.id]: { x: 1 }, [two.id]: { x: 2 } });
      await second.sub.remove(one.id);
      await until(() => it.entries.size === 1, 'it removed its own');
      assert.deepEqual(it.values(), { [one.id]: { x: 1 } });
      await second.sub.publish('', sdk.pack({ x: 3 }));
      await until(() => it.entries.size === 2, 'and set it again');
      first.sub.unsubscribe();
      await until(() => it.entries.size === 1, 'gone with the subscription');
      two.close();
      await until(() => it.entries.size === 0, 'gone with the connection');
      assert.deepEqual(await keysOf(name), []);
    });

    test('an entry of a user has its name as key, on whichever connection', async () => {
      const name = channel('profiles');
      const sub = unique();
      const [one, again, nobody] = [await peer(sub), await peer(sub), await peer()];
      const [mine, same, it] = [await watch(one, name), await watch(again, name), await watch(nobody, name)];
      await mine.sub.publish('x', sdk.pack({ n: 1 }));
      await same.sub.publish('y', sdk.pack({ n: 2 }));
      await until(() => it.values()[sub]?.n === 2, 'the second value');
      assert.deepEqual(it.values(), { [sub]: { n: 2 } });
      await assert.rejects(it.sub.publish(sub, sdk.pack({ n: 3 })), { code: 103 });
      one.close();
      await same.sub.remove('z');
      await until(() => it.entries.size === 0, 'removed by its user');
    });

    test('a map of the users in a channel has each once, until some time after the last connection', async () => {
      const name = channel('lobby');
      const [ann, bob] = [unique(), unique()];
      const [first, second, other] = [await peer(ann), await peer(ann), await peer(bob)];
      const it = await watch(await peer(), `users:${name}`, 'newMapUsersSubscription');
      for (const player of [first, second, other]) await player.join(name, { joinLeave: false });
      await until(() => it.entries.size === 2, 'two users');
      assert.deepEqual(it.keys(), [ann, bob].sort());
      first.close();
      other.close();
      await until(() => !it.entries.has(bob), 'the one whose time is up');
      assert.deepEqual(it.keys(), [ann], 'the other is still there by another connection');
      second.close();
      await until(() => it.entries.size === 0, 'nobody');
    });

    test('a map that is cleared is empty for everybody, and goes on', async () => {
      const name = channel('board');
      for (const n of range(1, 5)) await server.api('map_publish', { channel: name, key: `k${n}`, data: n });
      const it = await watch(await peer(), name);
      assert.equal(it.entries.size, 5);
      assert.deepEqual(await server.api('map_clear', { channel: name }), {});
      await until(() => it.syncs === 2, 'the state again');
      assert.deepEqual([it.values(), it.codes.includes(2500)], [{}, true]);
      assert.equal((await server.api('map_stats', { channel: name })).num_keys, 0);
      await server.api('map_publish', { channel: name, key: 'new', data: 6 });
      await until(() => it.entries.size === 1, 'what comes behind');
      assert.deepEqual(it.values(), { new: 6 });
    });

    test('key_mode sets only what is new, or only what is there', async () => {
      const name = channel('board');
      const it = await watch(await peer(), name);
      const put = (data, key_mode) => server.api('map_publish', { channel: name, key: 'k', data, key_mode });
      const suppressed = (suppress_reason) => ({ suppressed: true, suppress_reason });
      const said = ({ suppressed, suppress_reason }) => (suppressed ? { suppressed, suppress_reason } : {});
      assert.deepEqual(said(await put(1, 'if_exists')), suppressed('key_not_found'));
      assert.deepEqual(said(await put(2, 'if_new')), {});
      assert.deepEqual(said(await put(3, 'if_new')), suppressed('key_exists'));
      assert.deepEqual(said(await put(4, 'if_exists')), {});
      const updates = [];
      it.sub.on('update', ({ data }) => updates.push(sdk.unpack(data)));
      assert.deepEqual(said(await put(5)), {});
      await until(() => updates.includes(5), 'the last value');
      assert.deepEqual(it.values(), { k: 5 });
      const { error } = await (await server.request('map_publish', { channel: name, key: 'k', data: 1, key_mode: 'x' })).json();
      assert.equal(error.code, 107);
    });
  });
}

test('the API reads a map in pages, or one entry of it', async () => {
  const name = channel('board');
  const keys = range(10, 30).map((n) => `k${n}`);
  for (const key of keys) await server.api('map_publish', { channel: name, key, data: { key }, tags: { t: key } });
  const read = (more) => server.api('map_read_state', { channel: name, ...more });
  const first = await read({ limit: 10 });
  assert.deepEqual([first.entries.length, first.offset], [10, keys.length]);
  const { epoch: revision_epoch, offset: revision_offset } = first;
  // What changes between two pages is not on the pages of that revision.
  await server.api('map_publish', { channel: name, key: 'k99', data: 1 });
  const pages = [first];
  while (pages.at(-1).cursor) pages.push(await read({ limit: 10, cursor: pages.at(-1).cursor, revision_offset, revision_epoch }));
  assert.equal(pages.length, 3);
  assert.deepEqual(pages.flatMap((page) => page.entries.map((entry) => entry.key)), keys);
  const [entry] = (await read({ key: 'k12' })).entries;
  assert.deepEqual([entry.key, entry.data, entry.tags, entry.offset], ['k12', { key: 'k12' }, { t: 'k12' }, 3]);
  assert.deepEqual((await read({ key: 'none' })).entries, []);
  await server.api('map_remove', { channel: name, key: 'k99' });
  assert.equal((await server.api('map_stats', { channel: name })).num_keys, keys.length);
});

test('a full map takes no further key, and a channel that is no map none at all', async () => {
  const name = channel('full');
  const put = async (channel, key) => {
    const response = await server.request('map_publish', { channel, key, data: 1 });
    return (await response.json()).error?.code ?? 0;
  };
  for (const [key, code] of [['a', 0], ['b', 0], ['c', 106], ['a', 0]]) assert.equal(await put(name, key), code, key);
  assert.deepEqual(await keysOf(name), ['a', 'b']);
  assert.equal(await put(channel('lobby'), 'a'), 108);
  assert.equal(await put(channel('board'), ''), 107);
});
