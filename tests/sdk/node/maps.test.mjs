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
      { name: 'clients', subscription_type: 'map_clients', map: { mode: 'recoverable', key_ttl: '60s' }, ...open },
      { name: 'game', map_clients_presence_channel_prefix: 'clients:', ...open },
      { name: 'wild', allow_wildcards: true, ...open },
    ],
  },
};

const { server, proxy } = await behindProxy(Server.start(config));

/** A mirror of a map, kept by its events alone. */
function mirror(peer, name, make = 'newMapSubscription') {
  const sub = peer.client[make](name, { minResubscribeDelay: 20, maxResubscribeDelay: 100 });
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
