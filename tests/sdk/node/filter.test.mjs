// Tags filters and channels by number with the JavaScript SDK: only what is wanted comes, also after a cut.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Proxy } from '../lib/proxy.mjs';
import { JSON_SDK, Peer, SDKS } from '../lib/sdk.mjs';
import { Server, open } from '../lib/server.mjs';
import { channel, range, until } from '../lib/util.mjs';

let server;
let proxy;
before(async () => {
  const namespaces = [
    { name: 'filter', ...open, allow_tags_filter: true },
    { name: 'number', ...open, allow_channel_compaction: true, allowed_delta_types: ['fossil'], delta_publish: true },
    { name: 'never', ...open },
  ];
  server = await Server.start({ channel: { namespaces } });
  proxy = await Proxy.start(server.port);
});
after(async () => {
  await proxy?.stop();
  await server?.stop();
});

const numbers = (room) => room.data.map((d) => d.n);
const price = (name, n) =>
  server.api('publish', { channel: name, data: { n }, tags: { ticker: n % 2 ? 'AAPL' : 'GOOG', price: `${n}.50` } });

for (const sdk of SDKS) {
  describe(sdk.name, () => {
    test('filters of all shapes', async () => {
      const name = channel('filter');
      const leaf = (key, cmp, val) => ({ key, cmp, val });
      const cases = [
        [null, () => true],
        [leaf('ticker', 'eq', 'AAPL'), (n) => n % 2 === 1],
        [leaf('price', 'gte', '7.500'), (n) => n >= 7],
        [{ key: 'ticker', cmp: 'in', vals: ['GOOG', 'MSFT'] }, (n) => n % 2 === 0],
        [{ op: 'and', nodes: [leaf('ticker', 'neq', 'GOOG'), leaf('price', 'lt', '6')] }, (n) => n % 2 === 1 && n < 6],
        [{ op: 'not', nodes: [{ op: 'or', nodes: [leaf('price', 'sw', '3'), leaf('price', 'ew', 'x')] }] }, (n) => n !== 3],
        [{ key: 'volume', cmp: 'ex' }, () => false],
      ];
      const peers = await Promise.all(cases.map(() => new Peer(sdk, server.ws).connect()));
      const rooms = await Promise.all(
        cases.map(([tagsFilter], at) => peers[at].join(name, { joinLeave: false, tagsFilter })),
      );
      for (const n of range(1, 10)) await price(name, n);
      await until(() => rooms[0].data.length === 10, 'everything for who wants everything');
      await until(() => cases.every(([, wants], at) => rooms[at].data.length === range(1, 10).filter(wants).length), 'the rest');
      cases.forEach(([filter, wants], at) =>
        assert.deepEqual(numbers(rooms[at]), range(1, 10).filter(wants), JSON.stringify(filter)),
      );
      peers.forEach((peer) => peer.close());
    });

    test('recovers what is wanted, from however long ago', async () => {
      const name = channel('filter');
      const peer = await new Peer(sdk, proxy.ws).connect();
      const tagsFilter = { key: 'ticker', cmp: 'eq', val: 'AAPL' };
      const room = await peer.join(name, { joinLeave: false, tagsFilter });
      await price(name, 1);
      await until(() => room.data.length === 1, 'before the cut');
      // More than the history keeps, in pieces: nobody wants them, and nobody falls behind because of them.
      for (const round of range(1, 3)) {
        proxy.cut();
        for (const n of range(1, 60)) await price(name, 2 * n);
        proxy.mend();
        await until(() => room.subscribed.length === round + 1, `round ${round}`);
        assert.equal(room.subscribed[round].recovered, true);
      }
      proxy.cut();
      for (const n of range(2, 9)) await price(name, n);
      proxy.mend();
      await until(() => room.data.length === 5, 'what was wanted');
      await price(name, 11);
      await until(() => room.data.length === 6, 'live again');
      assert.deepEqual(numbers(room), [1, 3, 5, 7, 9, 11]);
      peer.close();
    });

    test('refused where it is not allowed', async () => {
      const peer = await new Peer(sdk, server.ws).connect();
      const tagsFilter = { key: 'ticker', cmp: 'eq', val: 'AAPL' };
      const refusal = await peer.join(channel('never'), { tagsFilter }).catch((error) => error);
      assert.equal(refusal.code, 107);
      peer.close();
    });

    test('a number stands for the channel', async () => {
      const names = range(1, 3).map(() => channel('number'));
      const peer = await new Peer(sdk, proxy.ws).connect();
      const rooms = [];
      for (const name of names) rooms.push(await peer.join(name, { delta: 'fossil' }));
      const ids = () => rooms.map((room) => room.sub._id);
      // In Protobuf this SDK loses what comes by number: it is told names.
      if (sdk === JSON_SDK) assert.ok(ids().every((id) => id > 0) && new Set(ids()).size === 3, `${ids()}`);
      for (const n of range(1, 5)) for (const name of names) await server.publish(name, { n, name });
      await until(() => rooms.every((room) => room.data.length === 5), 'everything');
      proxy.cut();
      for (const name of names) await server.publish(name, { n: 6, name });
      proxy.mend();
      await until(() => rooms.every((room) => room.data.length === 6), 'recovered');
      rooms.forEach((room, at) => assert.deepEqual(room.data, range(1, 6).map((n) => ({ n, name: names[at] }))));
      assert.ok(rooms.every((room) => room.joined.length > 0), 'joins come by number as well');
      await server.api('unsubscribe', { user: '', client: peer.id, channel: names[0] });
      await until(() => rooms[0].unsubscribed.length === 1, 'unsubscribed by the server');
      const plain = await peer.join(channel('never'));
      assert.ok(!(plain.sub._id > 0));
      peer.close();
    });
  });
}
