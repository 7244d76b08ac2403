// SDKs that speak version 1 of the protocol, unmodified, on the URL that today's SDKs use.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { LATE_JSON, OldPeer, OLD_SDKS, heard } from '../lib/old.mjs';
import { Proxy } from '../lib/proxy.mjs';
import { Raw } from '../lib/raw.mjs';
import { JSON_SDK, Peer, SDKS } from '../lib/sdk.mjs';
import { Server, open } from '../lib/server.mjs';
import { SECRET, token } from '../lib/token.mjs';
import { channel, range, until } from '../lib/util.mjs';

const servers = {};
const peers = [];
const client = { token: { hmac_secret_key: SECRET }, expired_close_delay: '3s', expired_sub_close_delay: '3s' };
const of = (protocol_v1) =>
  Server.start({
    client: { ...client, protocol_v1, allowed_origins: ['*'], allow_anonymous_connect_without_token: true },
    channel: { without_namespace: open, namespaces: [{ name: 'chat', ...open }, { name: 'plain' }] },
  });
before(async () => {
  servers.offset = await of('offset');
  servers.seq_gen = await of('seq_gen');
});
after(async () => {
  peers.forEach((peer) => peer.close());
  for (const server of Object.values(servers)) await server.stop();
});

async function made(sdk, url, more) {
  const peer = await new OldPeer(sdk, url, more).connect();
  peers.push(peer);
  return peer;
}

for (const sdk of OLD_SDKS) {
  describe(sdk.name, () => {
    const server = () => servers[sdk.positions];

    test('publications, with who sent them, between this SDK and today\'s', async () => {
      const name = channel();
      const [alice, bob] = [await made(sdk, server().ws), await made(sdk, server().ws)];
      const carol = await new Peer(JSON_SDK, server().ws).connect();
      peers.push(carol);
      const hers = await alice.join(name);
      const rooms = [hers, await bob.join(name), await carol.join(name)];
      const sent = [{ text: 'Grüße, 世界 🎉' }, [1, null, 'a\n"b"'], ...range(1, 30).map((n) => ({ n }))];
      for (const value of sent) await alice.publish(name, value);
      await carol.publish(name, 'today');
      await until(() => rooms.every((room) => room.data.length > sent.length), 'all publications');
      for (const room of rooms) assert.deepEqual(heard(room === rooms[2] ? LATE_JSON : sdk, room), [...sent, 'today']);
      const first = hers.publications.find((it) => Number(it.offset ?? it.seq) === 1);
      const last = hers.publications.find((it) => Number(it.offset ?? it.seq) === sent.length + 1);
      if (sdk.positions === 'offset') {
        // Older ones do not hand it on.
        assert.equal(first.info.client, alice.id);
        assert.equal(last.info.client, carol.id);
      }
    });

    test('many commands in one frame are answered', async () => {
      const name = channel();
      const peer = await made(sdk, server().ws);
      const room = await peer.join(name);
      peer.client.startBatching();
      const answers = range(1, 20).map((n) => peer.publish(name, n));
      peer.client.stopBatching();
      await Promise.all(answers);
      await until(() => room.data.length === 20, 'all publications');
      assert.deepEqual(heard(sdk, room), range(1, 20));
    });

    test('presence, join and leave, history', async () => {
      const name = channel();
      const [alice, bob] = [await made(sdk, server().ws), await made(sdk, server().ws)];
      const room = await alice.join(name);
      const his = await bob.join(name);
      await until(() => room.joined.length === 2, 'two joins');
      assert.deepEqual(room.joined, [alice.id, bob.id]);
      const { presence } = await room.sub.presence();
      assert.deepEqual(Object.keys(presence).sort(), [alice.id, bob.id].sort());
      const stats = await room.sub.presenceStats();
      assert.equal(stats.num_clients, 2);
      for (const n of range(1, 3)) await alice.publish(name, { n });
      await until(() => room.data.length === 3, 'publications');
      const history = await room.sub.history(sdk.positions === 'offset' ? { limit: -1 } : undefined);
      const read = history.publications.map((it) => sdk.unpack(it.data).n);
      assert.deepEqual(read, sdk.positions === 'offset' ? [1, 2, 3] : [3, 2, 1]);
      his.sub.unsubscribe();
      await until(() => room.left.length === 1, 'a leave');
      assert.deepEqual(room.left, [bob.id]);
      await server().api('unsubscribe', { user: '', client: alice.id, channel: name });
      await until(() => room.unsubscribed.length === 1, 'unsubscribed by the server');
    });

    test('what was missed is recovered, once and in order', async () => {
      const name = channel();
      const proxy = await Proxy.start(server().port);
      try {
        const peer = await made(sdk, proxy.ws);
        const room = await peer.join(name);
        for (const n of range(1, 3)) await server().publish(name, n);
        await until(() => room.data.length === 3, 'before the cut');
        proxy.cut();
        for (const n of range(4, 12)) await server().publish(name, n);
        await until(() => proxy.refused > 0, 'a refused reconnect');
        proxy.mend();
        await until(() => room.subscribed.length === 2 && room.data.length >= 12, 'recovery');
        await server().publish(name, 13);
        await until(() => room.data.length >= 13, 'live again');
        assert.deepEqual(heard(sdk, room), range(1, 13));
        assert.equal(room.subscribed[1].recovered, true);
      } finally {
        await proxy.stop();
      }
    });

    test('errors, rpc, and pings of the client', async () => {
      const peer = await made(sdk, server().ws);
      const refused = await peer.join(channel('plain'));
      assert.deepEqual(refused.errors.map((it) => it.code), [103]);
      await assert.rejects(peer.client.rpc(sdk.pack({})), (error) => error.code === 108);
      const before = peer.client._messageId;
      peer.client.ping();
      await until(() => !(before + 1 in peer.client._callbacks), 'the answer to a ping');
      await peer.client.send(sdk.pack('nobody listens'));
      await peer.join(channel());
      assert.deepEqual(peer.disconnected, []);
    });

    test('tokens: who the client is, its subscriptions, private channels, refresh', async () => {
      const [own, secret] = [channel(), `$${channel()}`];
      const fresh = () => token({ sub: '42', channels: [own], info: { name: 'Ann' } }, { ttl: 2 });
      let refreshed = 0;
      const onRefresh = (_, cb) => {
        refreshed += 1;
        cb({ status: 200, data: { token: fresh() } });
      };
      const asked = [];
      const onPrivateSubscribe = ({ data }, cb) => {
        asked.push(data);
        const channels = data.channels.map((name) => ({
          channel: name,
          token: token({ client: data.client, channel: name }, { ttl: 2 }),
        }));
        cb({ status: 200, data: { channels } });
      };
      const peer = new OldPeer(sdk, server().ws, { onRefresh, onPrivateSubscribe }).token(fresh());
      peers.push(peer);
      const heard = [];
      peer.client.on('publish', (ctx) => heard.push([ctx.channel, sdk.unpack(ctx.data)]));
      const serverSubs = [];
      peer.client.on('subscribe', (ctx) => serverSubs.push(ctx.channel));
      await peer.connect();
      const room = await peer.join(secret);
      await server().publish(own, 'own');
      await server().publish(secret, 'secret');
      await until(() => heard.length === 1 && room.data.length === 1, 'both');
      assert.deepEqual([heard, room.data, serverSubs], [[[own, 'own']], ['secret'], [own]]);
      const { presence } = await server().api('presence', { channel: secret });
      assert.equal(presence[peer.id].user, '42');
      // Of both tokens, well beyond their first two seconds.
      await until(() => refreshed >= 2 && asked.length >= 3, 'refreshes');
      assert.equal(peer.connected.length, 1, 'one connection');
      assert.ok(asked.every(({ client }) => client === peer.id));
      await server().publish(secret, 'again');
      await until(() => room.data.length === 2, 'still subscribed');
      assert.equal(peer.connected.length, 1);
    });

    test('an expired token is refreshed; a wrong one ends it', async () => {
      const onRefresh = (_, cb) => cb({ status: 200, data: { token: token({ sub: '7' }, { ttl: 3600 }) } });
      const late = new OldPeer(sdk, server().ws, { onRefresh }).token(token({ sub: '7' }, { ttl: -10 }));
      peers.push(late);
      await late.connect();
      const wrong = new OldPeer(sdk, server().ws).token(token({ sub: '7' }, { secret: 'other' }));
      peers.push(wrong);
      wrong.client.connect();
      await until(() => wrong.closes.length === 1, 'a close');
      assert.equal(wrong.closes[0].reason, 'invalid token');
      assert.equal(wrong.closes[0].reconnect, false);
    });

    test('a disconnect says why, and whether to come back', async () => {
      const peer = await made(sdk, server().ws);
      await server().api('disconnect', { user: '', client: peer.id, disconnect: { code: 4000, reason: 'come "back"' } });
      await until(() => peer.connected.length === 2, 'a reconnect');
      assert.deepEqual(peer.disconnected, [{ reason: 'come "back"', reconnect: true }]);
      await server().api('disconnect', { user: '', client: peer.id });
      await until(() => peer.disconnected.length === 2, 'a disconnect');
      assert.deepEqual(peer.disconnected[1], { reason: 'force disconnect', reconnect: false });
    });
  });
}

test('Protobuf by subprotocol alone, as centrifuge-js 5 asks for it', async () => {
  const sdk = OLD_SDKS[1];
  const peer = await made({ ...sdk, make: (url, more) => sdk.make(url.replace('?format=protobuf', ''), more) }, servers.offset.ws, {
    protocol: 'protobuf',
  });
  const room = await peer.join(channel());
  await peer.publish(room.sub.channel, 'x');
  await until(() => room.data.length === 1, 'a publication');
});

test('today\'s SDKs notice nothing', async () => {
  for (const sdk of SDKS) {
    const peer = await new Peer(sdk, servers.seq_gen.ws).connect();
    peers.push(peer);
    const room = await peer.join(channel());
    await peer.publish(room.sub.channel, { n: 1 });
    await until(() => room.data.length === 1, 'a publication');
    assert.equal(room.publications[0].offset, 1);
  }
});

test('frames come in order', async () => {
  const name = channel();
  const raw = await Raw.open(servers.offset.ws);
  raw.send({ id: 1, params: {} }, { id: 2, method: 1, params: { channel: name } });
  await raw.reply(2);
  raw.send(...range(1, 200).map((n) => ({ id: n + 2, method: 3, params: { channel: name, data: n } })));
  await raw.reply(202);
  const told = () => raw.messages.filter((it) => !it.id && !it.result.type).map((it) => it.result.data.offset);
  await until(() => told().length === 200, 'all publications');
  assert.deepEqual(told(), range(1, 200));
});

test('a method nobody knows is an error, nonsense ends it with advice', async () => {
  const raw = await Raw.open(servers.offset.ws);
  assert.ok((await raw.call({ id: 1, params: {} })).result.client);
  assert.deepEqual((await raw.call({ id: 2, method: 99, params: {} })).error, { code: 104, message: 'method not found' });
  raw.send({ id: 3, connect: {} });
  const { code, reason } = await raw.ended();
  assert.deepEqual([code, JSON.parse(reason)], [3501, { reason: 'bad request', reconnect: false }]);
});

test('without the option they are told so', async () => {
  const server = await Server.start();
  try {
    const peer = new OldPeer(LATE_JSON, server.ws);
    peers.push(peer);
    peer.client.connect();
    await until(() => peer.closes.length > 0, 'a close');
    assert.deepEqual([peer.closes[0].event.code, peer.closes[0].reason], [3501, 'bad request']);
    peer.close();
  } finally {
    await server.stop();
  }
});
