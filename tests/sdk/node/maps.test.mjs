// Maps and patterns with the SDK: a mirror of a map through pages, changes, cuts; what a pattern brings.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { behindProxy } from '../lib/behind.mjs';
import { Peer, SDKS } from '../lib/sdk.mjs';
import { Server } from '../lib/server.mjs';
import { channel, range, until } from '../lib/util.mjs';

const open = {
  allow_subscribe_for_client: true,
  allow_subscribe_for_anonymous: true,
};
const map = {
  key_ttl: '60s',
  allow_publish_for_client: true,
  allow_publish_for_anonymous: true,
  allow_remove_for_client: true,
  allow_remove_for_anonymous: true,
};
const config = {
  client: { allow_anonymous_connect_without_token: true },
  channel: {
    namespaces: [
      { name: 'kept', subscription_type: 'map', map: { ...map, mode: 'recoverable' }, ...open },
      { name: 'brief', subscription_type: 'map', map: { ...map, mode: 'ephemeral' }, ...open },
      {
        name: 'views',
        subscription_type: 'map',
        map: { ...map, mode: 'recoverable' },
        allow_tags_filter: true,
        allowed_delta_types: ['fossil'],
        delta_publish: true,
        allow_channel_compaction: true,
        ...open,
      },
      { name: 'calm', subscription_type: 'map', map: { ...map, mode: 'ephemeral' }, client_publish_debounce_interval: '300ms', ...open },
      {
        name: 'market',
        subscription_type: 'map',
        map: { ...map, mode: 'recoverable' },
        allowed_delta_types: ['fossil'],
        delta_publish: true,
        conflation_interval: '300ms',
        ...open,
      },
      { name: 'clients', subscription_type: 'map_clients', map: { mode: 'recoverable', key_ttl: '60s' }, ...open },
      { name: 'game', map_clients_presence_channel_prefix: 'clients:', ...open },
      { name: 'wild', allow_wildcards: true, ...open },
    ],
  },
};

const { server, proxy } = await behindProxy(Server.start(config));

/** A mirror of a map, kept by its events alone. */
function mirror(peer, name, make = 'newMapSubscription', options = {}) {
  const sub = peer.client[make](name, { minResubscribeDelay: 20, maxResubscribeDelay: 100, ...options });
  const it = { sub, entries: new Map(), syncs: 0, subscribed: [] };
  sub.on('subscribed', (ctx) => it.subscribed.push(ctx));
  sub.on('sync', ({ entries }) => {
    it.syncs += 1;
    it.entries = new Map(entries.map((entry) => [entry.key, entry]));
  });
  sub.on('update', (entry) => {
    if (entry.removed) it.entries.delete(entry.key);
    else it.entries.set(entry.key, entry);
  });
  it.values = () => Object.fromEntries([...it.entries].map(([key, { data }]) => [key, peer.sdk.unpack(data)]));
  sub.subscribe();
  return it;
}

for (const sdk of SDKS) {
  describe(sdk.name, () => {
    for (const namespace of ['kept', 'brief']) {
      test(`mirrors a ${namespace} map of many pages, and what changes`, async () => {
        const name = `${namespace}:${channel()}`;
        const want = {};
        for (const n of range(1, 250)) {
          await server.api('map_publish', { channel: name, key: `k${n}`, data: { n } });
          want[`k${n}`] = { n };
        }
        const peer = await new Peer(sdk, proxy.ws).connect();
        const it = mirror(peer, name);
        await until(() => it.syncs === 1, 'the state');
        assert.deepEqual(it.values(), want);
        await server.api('map_remove', { channel: name, key: 'k1' });
        delete want.k1;
        await it.sub.publish('mine', sdk.pack({ by: 'me' }));
        want.mine = { by: 'me' };
        await until(() => it.entries.has('mine') && !it.entries.has('k1'), 'the changes');
        await it.sub.remove('k2');
        delete want.k2;
        await until(() => !it.entries.has('k2'), 'the removal');
        assert.deepEqual(it.values(), want);
        const result = await server.api('map_stats', { channel: name });
        assert.equal(result.num_keys, Object.keys(want).length);
        peer.close();
      });
    }

    for (const delta of ['', 'fossil']) {
      test(`a conflated map: the newest of each entry in every interval${delta && ', as deltas'}`, async () => {
        const name = `market:${channel()}`;
        const peer = await new Peer(sdk, proxy.ws).connect();
        const it = mirror(peer, name, 'newMapSubscription', delta && { delta });
        await until(() => it.syncs === 1, 'the state');
        const told = new Map();
        it.sub.on('update', ({ key }) => told.set(key, (told.get(key) ?? 0) + 1));
        const began = Date.now();
        const quote = (n) => ({ n, text: 'the same again and again, and again, and once more' });
        for (const n of range(1, 40)) {
          for (const key of ['EUR', 'USD']) await server.api('map_publish', { channel: name, key, data: quote(n) });
        }
        await server.api('map_remove', { channel: name, key: 'EUR' });
        await until(() => !it.entries.has('EUR') && it.values().USD?.n === 40, 'the newest');
        const intervals = Math.floor((Date.now() - began) / 300) + 2;
        for (const key of ['EUR', 'USD']) assert.ok(told.get(key) <= intervals, `${told.get(key)} in ${intervals} intervals`);
        assert.deepEqual(it.values(), { USD: quote(40) });
        assert.equal(it.subscribed.length, 1);
        peer.close();
      });
    }

    test('catches up after a cut where the mode says so, and begins anew where not', async () => {
      for (const [namespace, recovers] of [['kept', true], ['brief', false]]) {
        const name = `${namespace}:${channel()}`;
        const peer = await new Peer(sdk, proxy.ws).connect();
        const it = mirror(peer, name);
        await server.api('map_publish', { channel: name, key: 'a', data: 1 });
        await until(() => it.entries.has('a'), 'the first entry');
        proxy.cut();
        await server.api('map_publish', { channel: name, key: 'b', data: 2 });
        await server.api('map_remove', { channel: name, key: 'a' });
        proxy.mend();
        await until(() => it.subscribed.length === 2 && it.entries.has('b') && !it.entries.has('a'), 'the changes');
        assert.equal(it.subscribed[1].recovered === true, recovers);
        assert.equal(it.syncs, recovers ? 1 : 2);
        peer.close();
      }
    });

    test('mirrors what passes a filter, whatever entries were before', async () => {
      const name = `views:${channel()}`;
      const set = (key, team, n) => server.api('map_publish', { channel: name, key, data: { n }, tags: { team } });
      for (const n of range(1, 150)) await set(`k${n}`, n % 2 ? 'red' : 'blue', n);
      const peer = await new Peer(sdk, proxy.ws).connect();
      const it = mirror(peer, name, 'newMapSubscription', { tagsFilter: { key: 'team', cmp: 'eq', val: 'red' } });
      await until(() => it.syncs === 1, 'the state');
      const want = Object.fromEntries(range(1, 150).filter((n) => n % 2).map((n) => [`k${n}`, { n }]));
      assert.deepEqual(it.values(), want);
      // One changes sides, one joins, one of the others changes and goes.
      await set('k1', 'blue', 1);
      await set('k2', 'red', 2);
      await set('k4', 'blue', 44);
      await server.api('map_remove', { channel: name, key: 'k6' });
      delete want.k1;
      want.k2 = { n: 2 };
      await until(() => it.entries.has('k2'), 'the changes');
      assert.deepEqual(it.values(), want);
      proxy.cut();
      await set('k3', 'blue', 3);
      await set('k5', 'red', 55);
      proxy.mend();
      delete want.k3;
      want.k5 = { n: 55 };
      await until(() => it.subscribed.length === 2 && it.entries.get('k5').offset === 156, 'what was missed');
      assert.equal(it.subscribed[1].recovered, true);
      assert.deepEqual(it.values(), want);
      // Another filter begins anew.
      it.sub.unsubscribe();
      it.sub.setTagsFilter({ key: 'team', cmp: 'eq', val: 'blue' });
      it.sub.subscribe();
      await until(() => it.syncs === 2, 'the other state');
      assert.deepEqual(it.values().k1, { n: 1 });
      assert.equal(it.values().k2, undefined);
      peer.close();
    });

    test('is told entries as differences to what they were', async () => {
      const name = `views:${channel()}`;
      const value = (n) => ({ text: 'a long text that stays as it is, and a number behind it: ', n });
      const set = (key, n) => server.api('map_publish', { channel: name, key, data: value(n) });
      for (const n of range(1, 120)) await set(`k${n}`, n);
      const peer = await new Peer(sdk, proxy.ws).connect();
      const it = mirror(peer, name, 'newMapSubscription', { delta: 'fossil' });
      await until(() => it.syncs === 1, 'the state');
      const want = Object.fromEntries(range(1, 120).map((n) => [`k${n}`, value(n)]));
      assert.deepEqual(it.values(), want);
      for (const n of [1, 2, 1, 3]) await set(`k${n}`, 1000 + n);
      for (const n of [1, 2, 3]) want[`k${n}`] = value(1000 + n);
      await until(() => it.entries.get('k3').offset === 124, 'the changes');
      assert.deepEqual(it.values(), want);
      assert.ok(it.sub.deltaStats().numDeltaPayloads >= 4, JSON.stringify(it.sub.deltaStats()));
      proxy.cut();
      await set('k1', 2001);
      await server.api('map_remove', { channel: name, key: 'k2' });
      proxy.mend();
      await until(() => it.subscribed.length === 2 && !it.entries.has('k2'), 'what was missed');
      await set('k1', 2002);
      await set('k2', 2002);
      await set('k2', 2003);
      [want.k1, want.k2] = [value(2002), value(2003)];
      await until(() => it.entries.get('k2')?.offset === 129, 'the changes after it');
      assert.deepEqual(it.values(), want);
      peer.close();
    });

    test('holds back what it publishes too soon', async () => {
      const name = `calm:${channel()}`;
      const peer = await new Peer(sdk, server.ws).connect();
      const it = mirror(peer, name);
      await until(() => it.syncs === 1, 'the state');
      const seen = [];
      it.sub.on('update', ({ data }) => seen.push(peer.sdk.unpack(data).n));
      for (const n of range(1, 20)) await it.sub.publish('k', sdk.pack({ n }));
      await until(() => seen.at(-1) === 20, 'the newest');
      assert.deepEqual(seen, [1, 20]);
      peer.close();
    });

    test('sees who is in a channel', async () => {
      const name = `game:${channel()}`;
      const [watcher, player] = await Promise.all([1, 2].map(() => new Peer(sdk, server.ws).connect()));
      const it = mirror(watcher, `clients:${name}`, 'newMapClientsSubscription');
      await until(() => it.syncs === 1, 'an empty map');
      await player.join(name, { joinLeave: false });
      await until(() => it.entries.has(player.id), 'the player');
      assert.equal(it.entries.get(player.id).info.client, player.id);
      player.close();
      await until(() => it.entries.size === 0, 'nobody');
      watcher.close();
    });

    test('hears under a pattern what is published in its channels', async () => {
      const name = `wild:${channel()}`;
      const peer = await new Peer(sdk, server.ws).connect();
      const room = await peer.join(`${name}.*`, { joinLeave: false });
      await server.publish(`${name}.a`, { n: 1 });
      await server.publish(name, { n: 2 });
      await server.publish(`${name}.b`, { n: 3 });
      await until(() => room.data.length === 2, 'two publications');
      assert.deepEqual(room.data, [{ n: 1 }, { n: 3 }]);
      assert.deepEqual(room.publications.map((p) => p.tags.channel), [`${name}.a`, `${name}.b`]);
      peer.close();
    });
  });
}
