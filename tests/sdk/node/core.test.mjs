// What an application does with the SDK, in JSON and in Protobuf.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Raw } from '../lib/raw.mjs';
import { JSON_SDK, PROTOBUF_SDK, Peer, SDKS } from '../lib/sdk.mjs';
import { Server } from '../lib/server.mjs';
import { channel, once, range, until } from '../lib/util.mjs';

let server;
before(async () => (server = await Server.start()));
after(() => server?.stop());

for (const sdk of SDKS) {
  describe(sdk.name, () => {
    const peers = [];
    const peer = async () => {
      const made = await new Peer(sdk, server.ws).connect();
      peers.push(made);
      return made;
    };
    after(() => peers.forEach((p) => p.close()));

    test('connect gives a client id', async () => {
      const one = await peer();
      assert.match(one.id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
      const other = await peer();
      assert.notEqual(one.id, other.id);
    });

    test('a publication arrives exactly, in order, with who sent it and where it stands', async () => {
      const name = channel();
      const [alice, bob] = [await peer(), await peer()];
      const [hers, his] = [await alice.join(name), await bob.join(name)];
      const sent = [
        { text: 'Grüße, 世界 🎉' },
        [1, -2.5, 1e21, true, null],
        'a "quoted" \\ string\nwith lines\tand </script>',
        { nested: { deep: [{}, [], ''] } },
        0,
        ...range(1, 50).map((n) => ({ n })),
      ];
      for (const value of sent) await alice.publish(name, value);
      await until(() => his.data.length === sent.length && hers.data.length === sent.length, 'all publications');
      assert.deepEqual(his.data, sent);
      assert.deepEqual(hers.data, sent);
      assert.deepEqual(his.publications.map((p) => p.offset), range(1, sent.length));
      for (const publication of his.publications) {
        assert.equal(publication.channel, name);
        assert.equal(publication.info.client, alice.id);
      }
    });

    test('publications not awaited keep their order', async () => {
      const name = channel();
      const [alice, bob] = [await peer(), await peer()];
      const room = await bob.join(name);
      await Promise.all(range(1, 80).map((n) => alice.publish(name, { n })));
      await until(() => room.data.length === 80, 'all publications');
      assert.deepEqual(room.data.map((d) => d.n), range(1, 80));
    });

    test('subscribed tells position and recoverability', async () => {
      const name = channel();
      await server.publish(name, 1);
      await server.publish(name, 2);
      const room = await (await peer()).join(name);
      const [context] = room.subscribed;
      assert.equal(context.recoverable, true);
      assert.equal(context.positioned, true);
      assert.equal(context.wasRecovering, false);
      assert.equal(context.recovered, false);
      assert.equal(context.streamPosition.offset, 2);
      assert.ok(context.streamPosition.epoch.length > 0);
      const plain = await (await peer()).join(channel('plain'));
      assert.equal(plain.subscribed[0].recoverable, false);
      assert.equal(plain.subscribed[0].positioned, false);
    });

    test('presence and presence stats', async () => {
      const name = channel();
      const members = await Promise.all(range(1, 4).map(peer));
      const rooms = [];
      for (const member of members) rooms.push(await member.join(name));
      const { clients } = await rooms[0].sub.presence();
      assert.deepEqual(Object.keys(clients).sort(), members.map((m) => m.id).sort());
      for (const [id, info] of Object.entries(clients)) assert.equal(info.client, id);
      const stats = await members[1].client.presenceStats(name);
      assert.equal(stats.numClients, 4);
      assert.equal(stats.numUsers, 1, 'anonymous clients are one user');
      members[3].close();
      await until(async () => (await rooms[0].sub.presenceStats()).numClients === 3, 'one member fewer');
    });

    test('join and leave', async () => {
      const name = channel();
      const [alice, bob, carol] = [await peer(), await peer(), await peer()];
      const room = await alice.join(name);
      await until(() => room.joined.length === 1, 'own join');
      assert.deepEqual(room.joined, [alice.id]);
      const his = await bob.join(name);
      await carol.join(name);
      await until(() => room.joined.length === 3, 'two more joins');
      assert.deepEqual(room.joined.slice(1), [bob.id, carol.id]);
      his.sub.unsubscribe();
      await until(() => room.left.length === 1, 'leave after unsubscribe');
      carol.close();
      await until(() => room.left.length === 2, 'leave after disconnect');
      assert.deepEqual(room.left, [bob.id, carol.id]);
    });

    test('no join or leave unless asked for', async () => {
      const name = channel();
      const [alice, bob] = [await peer(), await peer()];
      const room = await alice.join(name, { joinLeave: false });
      await bob.join(name);
      await bob.publish(name, 'after the join');
      await until(() => room.data.length === 1, 'publication');
      assert.deepEqual(room.joined, []);
    });

    test('history: limit, since, reverse, position', async () => {
      const name = channel();
      const one = await peer();
      const room = await one.join(name);
      for (const n of range(1, 10)) await one.publish(name, { n });
      const read = async (options) => {
        const result = await room.sub.history(options);
        assert.equal(result.offset, 10);
        return result.publications.map((p) => {
          assert.equal(sdk.unpack(p.data).n, p.offset);
          return p.offset;
        });
      };
      const { epoch } = await room.sub.history({ limit: 0 });
      assert.deepEqual(await read({ limit: 0 }), []);
      assert.deepEqual(await read({ limit: -1 }), range(1, 10));
      assert.deepEqual(await read({ limit: 3 }), [1, 2, 3]);
      assert.deepEqual(await read({ limit: 100, since: { offset: 7, epoch } }), [8, 9, 10]);
      assert.deepEqual(await read({ limit: 2, since: { offset: 4, epoch } }), [5, 6]);
      assert.deepEqual(await read({ limit: 100, since: { offset: 10, epoch } }), []);
      assert.deepEqual(await read({ limit: 3, reverse: true }), [10, 9, 8]);
      assert.deepEqual(await read({ limit: 3, reverse: true, since: { offset: 5, epoch } }), [4, 3, 2]);
      await assert.rejects(room.sub.history({ limit: 1, since: { offset: 1, epoch: 'other' } }), { code: 112 });
    });

    test('history keeps the newest of its size', async () => {
      const name = channel('small');
      const one = await peer();
      for (const n of range(1, 8)) await one.publish(name, { n });
      const { publications, offset } = await one.client.history(name, { limit: -1 });
      assert.equal(offset, 8);
      assert.deepEqual(publications.map((p) => sdk.unpack(p.data).n), [6, 7, 8]);
    });

    test('unsubscribed hears nothing more, and may come back', async () => {
      const name = channel();
      const [alice, bob] = [await peer(), await peer()];
      const room = await bob.join(name, { joinLeave: false });
      await alice.publish(name, 1);
      await until(() => room.data.length === 1, 'first publication');
      room.sub.unsubscribe();
      assert.equal(room.unsubscribed[0].code, 0);
      await until(async () => (await alice.client.presenceStats(name)).numClients === 0, 'unsubscribed on the server');
      await alice.publish(name, 2);
      assert.deepEqual(room.data, [1]);
      bob.client.removeSubscription(room.sub);
      const again = await bob.join(name);
      await alice.publish(name, 3);
      await until(() => again.data.length === 1, 'publication after coming back');
      assert.deepEqual(again.data, [3]);
      assert.deepEqual(room.data, [1]);
    });

    test('rpc is answered 108, and the connection stays', async () => {
      const one = await peer();
      await assert.rejects(one.client.rpc('anything', sdk.pack({})), { code: 108 });
      assert.equal((await one.client.presenceStats(channel())).numClients, 0);
    });

    test('send does not cut the client', async () => {
      const one = await peer();
      await one.client.send(sdk.pack({ fire: 'and forget' }));
      assert.equal((await one.client.presenceStats(channel())).numClients, 0);
      assert.equal(one.connecting.length, 1);
      assert.equal(one.disconnected.length, 0);
    });

    for (const [what, name, code] of [
      ['an unknown namespace', 'nowhere:x', 102],
      ['a forbidden namespace', 'locked:x', 103],
      ['a private channel without a token', '$chat:x', 103],
      ['a channel of 256 bytes', 'chat:'.padEnd(256, 'x'), 107],
      ['a channel that is not ASCII', 'chat:ü', 107],
    ]) {
      test(`subscribe to ${what} gives ${code}`, async () => {
        const one = await peer();
        const room = one.listen(name);
        room.sub.subscribe();
        const context = await once(room.sub, 'unsubscribed');
        assert.equal(context.code, code);
        assert.equal(one.connecting.length, 1, 'the connection stays');
      });
    }

    for (const [what, name, code] of [
      ['an unknown namespace', 'nowhere:x', 102],
      ['a namespace that does not allow it', 'plain:x', 103],
    ]) {
      test(`publish into ${what} gives ${code}`, async () => {
        const one = await peer();
        await assert.rejects(one.publish(name, {}), { code });
      });
    }

    test('presence and history that are off give 108', async () => {
      const one = await peer();
      await assert.rejects(one.client.presence('plain:x'), { code: 108 });
      await assert.rejects(one.client.presenceStats('plain:x'), { code: 108 });
      await assert.rejects(one.client.history('plain:x', { limit: 1 }), { code: 108 });
    });

    test('many channels of one client, spread over the cores', async () => {
      const [one, other] = [await peer(), await peer()];
      const names = range(1, 60).map(() => channel());
      const rooms = await Promise.all(names.map((name) => one.join(name, { joinLeave: false })));
      await Promise.all(names.flatMap((name, at) => range(1, 3).map((n) => other.publish(name, { at, n }))));
      await until(() => rooms.every((room) => room.data.length === 3), 'three publications in each channel');
      rooms.forEach((room, at) => assert.deepEqual(room.data, range(1, 3).map((n) => ({ at, n }))));
    });

    test('disconnect by the server with a final code', async () => {
      const one = await peer();
      await server.api('disconnect', { user: '', client: one.id, disconnect: { code: 4501, reason: 'bye' } });
      const context = await until(() => one.disconnected[0], 'disconnected');
      assert.equal(context.code, 4501);
      assert.equal(context.reason, 'bye');
    });

    test('disconnect by the server with a code that allows coming back', async () => {
      const one = await peer();
      const room = await one.join(channel());
      const first = one.id;
      await server.api('disconnect', { user: '', client: one.id, disconnect: { code: 4100, reason: 'again' } });
      await until(() => one.id !== first && room.subscribed.length === 2, 'connected and subscribed again');
      assert.equal(one.connecting[1].code, 4100);
      assert.equal(one.disconnected.length, 0);
    });

    test('server-side subscribe and unsubscribe', async () => {
      const name = channel();
      const one = await peer();
      const events = [];
      one.client.on('subscribed', (ctx) => events.push(['subscribed', ctx.channel]));
      one.client.on('publication', (ctx) => events.push(['publication', sdk.unpack(ctx.data)]));
      one.client.on('unsubscribed', (ctx) => events.push(['unsubscribed', ctx.channel]));
      await server.api('subscribe', { user: '', client: one.id, channel: name });
      await until(() => events.length === 1, 'subscribed');
      await server.publish(name, { n: 1 });
      await until(() => events.length === 2, 'publication');
      await server.api('unsubscribe', { user: '', client: one.id, channel: name });
      await until(() => events.length === 3, 'unsubscribed');
      assert.deepEqual(events, [['subscribed', name], ['publication', { n: 1 }], ['unsubscribed', name]]);
    });
  });
}

test('JSON and Protobuf clients read each other', async () => {
  const name = channel();
  const json = await new Peer(JSON_SDK, server.ws).connect();
  const protobuf = await new Peer(PROTOBUF_SDK, server.ws).connect();
  const rooms = [await json.join(name), await protobuf.join(name)];
  await json.publish(name, { from: 'json' });
  await protobuf.publish(name, { from: 'protobuf' });
  await until(() => rooms.every((room) => room.data.length === 2), 'both publications');
  for (const room of rooms) assert.deepEqual(room.data, [{ from: 'json' }, { from: 'protobuf' }]);
  json.close();
  protobuf.close();
});

test('data that is not JSON reaches Protobuf clients byte by byte, and a JSON client does not get broken JSON', async () => {
  const name = channel();
  const bytes = Uint8Array.from([0, 255, 1, 254, 10, 128]);
  const publisher = await new Peer(PROTOBUF_SDK, server.ws).connect();
  const reader = await new Peer(PROTOBUF_SDK, server.ws).connect();
  const heard = [];
  const sub = reader.client.newSubscription(name);
  sub.on('publication', (ctx) => heard.push([...ctx.data]));
  sub.subscribe();
  await once(sub, 'subscribed');
  const json = await Raw.connected(server.ws);
  await json.call({ id: 2, subscribe: { channel: name } });
  await publisher.client.publish(name, bytes);
  await until(() => heard.length === 1, 'binary publication');
  assert.deepEqual(heard, [[...bytes]]);
  assert.ok(json.messages.every((m) => !m.push?.pub), 'nothing was pushed in JSON');
  json.end();
  publisher.close();
  reader.close();
});
