// Fossil deltas with the JavaScript SDK: what comes out is what went in, letter by letter, and it came as deltas.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { behindProxy } from '../lib/behind.mjs';
import { Peer, SDKS } from '../lib/sdk.mjs';
import { Server, open } from '../lib/server.mjs';
import { channel, range, until } from '../lib/util.mjs';

const delta = { ...open, allowed_delta_types: ['fossil'], delta_publish: true };
const namespaces = [
  { name: 'delta', ...delta },
  { name: 'asked', ...delta, delta_publish: false },
  { name: 'never', ...open },
];
const { server, proxy } = await behindProxy(Server.start({ channel: { namespaces } }));

const LINES = ['Привет, как дела?', 'naïve façade — déjà vu', '日本語のテキスト', 'emoji 😀😃😄', 'plain <b>&"\\ text\u2028'];

/** A document of which each version differs a little: letters of one to four bytes at places that move. */
const version = (n) => ({
  n,
  lines: LINES.map((line, at) => (at === n % LINES.length ? line.replace(/[аdк語😀p]/u, `«${n}»`) : line)),
  numbers: range(1, 20).map((i) => i * (n % 7 === 0 ? 3 : 2)),
});

for (const sdk of SDKS) {
  describe(sdk.name, () => {
    test('all kinds of letters, live', async () => {
      const name = channel('delta');
      const peer = await new Peer(sdk, server.ws).connect();
      const room = await peer.join(name, { joinLeave: false, delta: 'fossil' });
      for (const n of range(1, 40)) await server.publish(name, version(n));
      await until(() => room.data.length === 40, 'everything');
      assert.deepEqual(room.data, range(1, 40).map(version));
      const stats = room.sub.deltaStats();
      assert.equal(stats.numDeltaPayloads, 39, JSON.stringify(stats));
      assert.ok(stats.compressionRatio > 0.5, JSON.stringify(stats));
      assert.deepEqual(room.errors, []);
      peer.close();
    });

    test('published by a client, and from a second subscriber on', async () => {
      const name = channel('delta');
      const peers = await Promise.all(range(1, 3).map(() => new Peer(sdk, server.ws).connect()));
      const rooms = [];
      for (const [at, peer] of peers.entries()) {
        rooms.push(await peer.join(name, { joinLeave: false, delta: 'fossil' }));
        for (const n of range(at * 5 + 1, at * 5 + 5)) await peers[0].publish(name, version(n));
      }
      await until(() => rooms.every((room) => room.data.at(-1)?.n === 15), 'everything');
      for (const [at, room] of rooms.entries()) {
        assert.deepEqual(room.data, range(at * 5 + 1, 15).map(version));
        assert.equal(room.sub.deltaStats().numFullPayloads, 1);
      }
      peers.forEach((peer) => peer.close());
    });

    test('recovers what was missed', async () => {
      const name = channel('delta');
      const peer = await new Peer(sdk, proxy.ws).connect();
      const room = await peer.join(name, { joinLeave: false, delta: 'fossil' });
      for (const n of range(1, 5)) await server.publish(name, version(n));
      await until(() => room.data.length === 5, 'before the cut');
      proxy.cut();
      for (const n of range(6, 20)) await server.publish(name, version(n));
      proxy.mend();
      await until(() => room.subscribed.length === 2, 'subscribed again');
      assert.equal(room.subscribed[1].recovered, true);
      for (const n of range(21, 25)) await server.publish(name, version(n));
      await until(() => room.data.length === 25, 'everything');
      assert.deepEqual(room.data, range(1, 25).map(version));
      assert.ok(room.sub.deltaStats().numDeltaPayloads >= 20, JSON.stringify(room.sub.deltaStats()));
      peer.close();
    });

    test('only what is published as a delta, only where it is allowed', async () => {
      const peer = await new Peer(sdk, server.ws).connect();
      const asked = channel('asked');
      const room = await peer.join(asked, { joinLeave: false, delta: 'fossil' });
      for (const n of range(1, 4)) await server.api('publish', { channel: asked, data: version(n), delta: n % 2 === 0 });
      await until(() => room.data.length === 4, 'all four');
      assert.deepEqual(room.data, range(1, 4).map(version));
      assert.equal(room.sub.deltaStats().numDeltaPayloads, 2);
      const never = channel('never');
      const plain = await peer.join(never, { joinLeave: false, delta: 'fossil' });
      for (const n of range(1, 3)) await server.publish(never, version(n));
      await until(() => plain.data.length === 3, 'all three');
      assert.deepEqual(plain.data, range(1, 3).map(version));
      assert.equal(plain.sub.deltaStats().numDeltaPayloads, 0);
      peer.close();
    });
  });
}
