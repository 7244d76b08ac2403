// What an SDK may ask for when it subscribes, and what it is given unasked.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { behindProxy } from '../lib/behind.mjs';
import { Peer, SDKS } from '../lib/sdk.mjs';
import { Server, open } from '../lib/server.mjs';
import { channel, range, until } from '../lib/util.mjs';

const namespaces = [
  { name: 'chat', ...open },
  { name: 'small', ...open, history_size: 3 },
  { name: 'loud', ...open, force_push_join_leave: true },
  { name: 'members', ...open, allow_publish_for_client: false, allow_publish_for_subscriber: true },
];
const { server, proxy } = await behindProxy(Server.start({ runtime: { cores: 2 }, channel: { namespaces } }));

for (const sdk of SDKS) {
  describe(sdk.name, () => {
    const peers = [];
    after(() => peers.forEach((it) => it.close()));
    const peer = async (url = server.ws) => {
      peers.push(await new Peer(sdk, url).connect());
      return peers.at(-1);
    };

    test('from a place in the stream, with what came behind it', async () => {
      const name = channel();
      for (const n of range(1, 5)) await server.publish(name, n);
      const { epoch } = await server.api('history', { channel: name, limit: 0 });
      const room = await (await peer()).join(name, { since: { offset: 2, epoch } });
      await until(() => room.data.length === 3, 'what came behind');
      await server.publish(name, 6);
      await until(() => room.data.length === 4, 'live');
      assert.deepEqual([room.data, room.subscribed[0].recovered], [[3, 4, 5, 6], true]);
    });

    test('from a state of the application, which is loaded anew when too much was missed', async () => {
      const name = channel('small');
      const one = await peer(proxy.ws);
      const states = [];
      const getState = async () => {
        const { offset, epoch } = await server.api('history', { channel: name, limit: 0 });
        states.push(offset);
        return { offset, epoch };
      };
      await server.publish(name, 1);
      const room = await one.join(name, { getState, joinLeave: false });
      await server.publish(name, 2);
      await until(() => room.data.length === 1, 'live');
      proxy.cut();
      for (const n of [3, 4]) await server.publish(name, n);
      proxy.mend();
      await until(() => room.data.length === 3, 'what was missed');
      assert.deepEqual([room.data, states], [[2, 3, 4], [1]], 'as much as the history keeps: the state is good');
      proxy.cut();
      for (const n of range(5, 10)) await server.publish(name, n);
      proxy.mend();
      await until(() => room.subscribed.length === 3, 'subscribed again');
      await server.publish(name, 11);
      await until(() => room.data.at(-1) === 11, 'live again');
      assert.deepEqual([room.data, states], [[2, 3, 4, 11], [1, 10]], 'more than it keeps: the state is loaded');
      assert.ok(room.subscribed[2].recovered);
    });

    test('joins and leaves come unasked where the namespace says so', async () => {
      const name = channel('loud');
      const [one, two] = [await peer(), await peer()];
      const room = await one.join(name, { joinLeave: false });
      await two.join(name, { joinLeave: false });
      await until(() => room.joined.length === 2, 'both joins');
      two.close();
      await until(() => room.left.length === 1, 'the leave');
      assert.deepEqual([room.joined, room.left], [[one.id, two.id], [two.id]]);
    });

    test('only subscribers publish where the namespace says so', async () => {
      const name = channel('members');
      const [one, two] = [await peer(), await peer()];
      const room = await one.join(name);
      await assert.rejects(two.publish(name, 1), { code: 103 });
      await one.publish(name, 2);
      await two.join(name);
      await two.publish(name, 3);
      await until(() => room.data.length === 2, 'both');
      assert.deepEqual(room.data, [2, 3]);
    });
  });
}
