// Conflation and no echo with the JavaScript SDK: namespaces that spare their subscribers something.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Peer, SDKS } from '../lib/sdk.mjs';
import { Server, open } from '../lib/server.mjs';
import { channel, range, until } from '../lib/util.mjs';

let server;
before(async () => {
  const delta = { allowed_delta_types: ['fossil'], delta_publish: true };
  const namespaces = [
    { name: 'slow', ...open, ...delta, conflation_interval: '300ms' },
    { name: 'quiet', ...open, ...delta, no_echo: true },
  ];
  server = await Server.start({ channel: { namespaces } });
});
after(() => server?.stop());

for (const sdk of SDKS) {
  describe(sdk.name, () => {
    for (const delta of ['', 'fossil']) {
      test(`the newest in every interval${delta && ', as deltas'}`, async () => {
        const name = channel('slow');
        const peer = await new Peer(sdk, server.ws).connect();
        const room = await peer.join(name, { joinLeave: false, ...(delta && { delta }) });
        const began = Date.now();
        const document = (n) => ({ n, text: 'the same again and again, and again, and once more' });
        const count = 60;
        for (const n of range(1, count)) await server.publish(name, document(n));
        await until(() => room.data.at(-1)?.n === count, 'the newest');
        const intervals = Math.floor((Date.now() - began) / 300) + 2;
        assert.ok(room.data.length <= intervals, `${room.data.length} in ${intervals} intervals`);
        assert.deepEqual(room.data, room.data.map(({ n }) => document(n)));
        const offsets = room.publications.map((p) => p.offset);
        assert.deepEqual(offsets, [...offsets].sort((a, b) => a - b));
        assert.deepEqual([room.unsubscribed, room.errors], [[], []]);
        peer.close();
      });
    }

    test('own publications do not come back', async () => {
      const name = channel('quiet');
      const peers = await Promise.all(range(1, 3).map(() => new Peer(sdk, server.ws).connect()));
      const rooms = await Promise.all(peers.map((peer) => peer.join(name, { joinLeave: false, delta: 'fossil' })));
      for (const n of range(0, 29)) await peers[n % 3].publish(name, { n, by: n % 3, text: 'the same again and again' });
      await server.publish(name, { n: 30, by: 3 });
      await until(() => rooms.every((room) => room.data.at(-1)?.n === 30), 'everything');
      rooms.forEach((room, at) =>
        assert.deepEqual(room.data.map((d) => d.n), range(0, 30).filter((n) => n === 30 || n % 3 !== at)),
      );
      peers.forEach((peer) => peer.close());
    });
  });
}
