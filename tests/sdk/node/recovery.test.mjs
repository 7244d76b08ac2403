// TCP is cut while messages are published: what was missed comes, once and in order, or the SDK is told.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { behindProxy } from '../lib/behind.mjs';
import { Raw } from '../lib/raw.mjs';
import { Peer, SDKS } from '../lib/sdk.mjs';
import { Server } from '../lib/server.mjs';
import { channel, range, until } from '../lib/util.mjs';

const { server, proxy } = await behindProxy(Server.start());

const numbers = (room) => room.data.map((d) => d.n);

for (const sdk of SDKS) {
  describe(sdk.name, () => {
    test('recovers exactly what was missed', async () => {
      const name = channel();
      const peer = await new Peer(sdk, proxy.ws).connect();
      const room = await peer.join(name, { joinLeave: false });
      for (const n of range(1, 5)) await server.publish(name, { n });
      await until(() => room.data.length === 5, 'before the cut');

      const publishing = (async () => {
        for (const n of range(6, 45)) {
          await server.publish(name, { n });
          if (n === 15) proxy.cut();
          if (n === 35) {
            await until(() => proxy.refused > 0, 'a reconnect was refused');
            proxy.mend();
          }
        }
      })();
      await publishing;
      await until(() => room.subscribed.length === 2 && room.data.length >= 45, 'everything');
      const [, second] = room.subscribed;
      assert.equal(second.wasRecovering, true);
      assert.equal(second.recovered, true);
      assert.deepEqual(numbers(room), range(1, 45));
      assert.deepEqual(room.publications.map((p) => p.offset), range(1, 45));
      await server.publish(name, { n: 46 });
      await until(() => room.data.length === 46, 'live again');
      assert.deepEqual(numbers(room), range(1, 46));
      peer.close();
    });

    test('several cuts, several channels', async () => {
      const names = range(1, 8).map(() => channel());
      const peer = await new Peer(sdk, proxy.ws).connect();
      const rooms = await Promise.all(names.map((name) => peer.join(name, { joinLeave: false })));
      const rounds = 3;
      let sent = 0;
      for (let round = 1; round <= rounds; round += 1) {
        const seen = proxy.refused;
        proxy.cut();
        for (let i = 0; i < 10; i += 1) {
          sent += 1;
          await server.api('broadcast', { channels: names, data: { n: sent } });
        }
        await until(() => proxy.refused > seen, 'a reconnect was refused');
        proxy.mend();
        await until(() => rooms.every((room) => room.data.length >= sent), `round ${round}`);
      }
      for (const room of rooms) {
        assert.deepEqual(numbers(room), range(1, sent));
        assert.equal(room.subscribed.length, rounds + 1);
        assert.ok(room.subscribed.slice(1).every((ctx) => ctx.recovered));
      }
      peer.close();
    });

    test('nothing missed: recovered, and nothing comes twice', async () => {
      const name = channel();
      const peer = await new Peer(sdk, proxy.ws).connect();
      const room = await peer.join(name, { joinLeave: false });
      await server.publish(name, { n: 1 });
      await until(() => room.data.length === 1, 'first');
      proxy.cut();
      proxy.mend();
      await until(() => room.subscribed.length === 2, 'subscribed again');
      assert.equal(room.subscribed[1].recovered, true);
      await server.publish(name, { n: 2 });
      await until(() => room.data.length === 2, 'second');
      assert.deepEqual(numbers(room), [1, 2]);
      peer.close();
    });

    test('more missed than history keeps: told so', async () => {
      const name = channel('small');
      const peer = await new Peer(sdk, proxy.ws).connect();
      const room = await peer.join(name, { joinLeave: false });
      await server.publish(name, { n: 1 });
      await until(() => room.data.length === 1, 'first');
      proxy.cut();
      for (const n of range(2, 10)) await server.publish(name, { n });
      proxy.mend();
      await until(() => room.subscribed.length === 2, 'subscribed again');
      assert.equal(room.subscribed[1].wasRecovering, true);
      assert.equal(room.subscribed[1].recovered, false);
      await server.publish(name, { n: 11 });
      await until(() => room.data.length === 2, 'live again');
      assert.deepEqual(numbers(room), [1, 11]);
      peer.close();
    });

    test('exactly as much missed as history keeps: recovered', async () => {
      const name = channel('small');
      const peer = await new Peer(sdk, proxy.ws).connect();
      const room = await peer.join(name, { joinLeave: false });
      await server.publish(name, { n: 1 });
      await until(() => room.data.length === 1, 'first');
      proxy.cut();
      for (const n of range(2, 4)) await server.publish(name, { n });
      proxy.mend();
      await until(() => room.data.length === 4, 'everything');
      assert.equal(room.subscribed[1].recovered, true);
      assert.deepEqual(numbers(room), [1, 2, 3, 4]);
      peer.close();
    });

    test('history removed meanwhile: told so', async () => {
      const name = channel();
      const peer = await new Peer(sdk, proxy.ws).connect();
      const room = await peer.join(name, { joinLeave: false });
      await server.publish(name, { n: 1 });
      await until(() => room.data.length === 1, 'first');
      proxy.cut();
      await server.publish(name, { n: 2 });
      await server.api('history_remove', { channel: name });
      await server.publish(name, { n: 3 });
      proxy.mend();
      await until(() => room.subscribed.length === 2, 'subscribed again');
      assert.equal(room.subscribed[1].recovered, false);
      peer.close();
    });
  });
}

test('the recovery replies of the protocol', async () => {
  const name = channel();
  for (const n of range(1, 3)) await server.publish(name, { n });
  const { epoch } = await server.api('history', { channel: name, limit: 0 });
  const attempt = async (fields) => {
    const raw = await Raw.connected(server.ws);
    const reply = await raw.call({ id: 2, subscribe: { channel: name, recover: true, ...fields } });
    raw.end();
    return reply;
  };
  const some = (await attempt({ offset: 1, epoch })).subscribe;
  assert.equal(some.recovered, true);
  assert.equal(some.was_recovering, true);
  assert.equal(some.offset, 1, 'the offset of the request');
  assert.deepEqual(some.publications.map((p) => p.offset), [2, 3]);
  const top = (await attempt({ offset: 3, epoch })).subscribe;
  assert.equal(top.recovered, true);
  assert.equal(top.publications, undefined);
  const foreign = (await attempt({ offset: 1, epoch: 'zzzz' })).subscribe;
  assert.equal(foreign.recovered, undefined);
  assert.equal(foreign.was_recovering, true);
  assert.equal(foreign.offset, 3, 'the top of the stream');
  assert.equal(foreign.publications, undefined);
  assert.equal((await attempt({ offset: 1, epoch: 'zzzz', flag: 2 })).error.code, 112);
  assert.equal((await attempt({ offset: 99, epoch })).subscribe.recovered, undefined);
});
