// SIGTERM: clients are told to come back, the process ends well, and they find the next one.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Raw } from '../lib/raw.mjs';
import { Peer, SDKS } from '../lib/sdk.mjs';
import { Server } from '../lib/server.mjs';
import { channel, until } from '../lib/util.mjs';

for (const signal of ['SIGTERM', 'SIGINT']) {
  test(`${signal}: 3001 to everybody, exit 0, and clients come back to the next process`, async () => {
    const server = await Server.start();
    try {
      const name = channel();
      const peers = [];
      for (const sdk of SDKS) {
        const peer = await new Peer(sdk, server.ws).connect();
        peers.push({ peer, room: await peer.join(name) });
      }
      const raw = await Raw.connected(server.ws);
      await fetch(`${server.http}/health`); // leaves an idle kept connection behind

      server.child.kill(signal);
      assert.deepEqual(await raw.ended(), { code: 3001, reason: 'shutdown' });
      await until(() => server.exit, 'exit', 20_000);
      assert.deepEqual(server.exit, { code: 0, signal: null }, server.log);
      for (const { peer } of peers) {
        await until(() => peer.connecting.length >= 2, 'the SDK reconnects');
        assert.equal(peer.connecting[1].code, 3001);
        assert.equal(peer.disconnected.length, 0);
      }

      await server.run();
      for (const { peer, room } of peers) {
        await until(() => room.subscribed.length === 2, 'subscribed at the next process');
        assert.equal(room.subscribed[1].recovered, false, `${peer.sdk.name}: memory does not outlive the process`);
      }
      for (const n of [1, 2]) await server.publish(name, { n });
      for (const { peer, room } of peers) {
        await until(() => room.data.length === 2, 'live again');
        assert.deepEqual(room.data, [{ n: 1 }, { n: 2 }]);
        peer.close();
      }
    } finally {
      await server?.stop();
    }
  });
}
