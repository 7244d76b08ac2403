// What the options of a namespace change for an SDK: who may come, names, payloads, recovery, positions.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { behindProxy } from '../lib/behind.mjs';
import { PROTOBUF_SDK, Peer, SDKS } from '../lib/sdk.mjs';
import { Server, open } from '../lib/server.mjs';
import { SECRET, token } from '../lib/token.mjs';
import { channel, range, until } from '../lib/util.mjs';

const come = { allow_subscribe_for_client: true, allow_subscribe_for_anonymous: true };
const say = { allow_publish_for_client: true, allow_publish_for_anonymous: true };
const kept = { history_size: 100, history_ttl: '300s' };
const client = { allow_anonymous_connect_without_token: true, token: { hmac_secret_key: SECRET } };
const namespaces = [
  { name: 'private', allow_user_limited_channels: true, allow_publish_for_subscriber: true },
  { name: 'named', ...come, ...say, channel_regex: '^\\p{L}+(-\\d+)+$' },
  { name: 'users', pattern: '/users/:id', ...come, ...say },
  { name: 'me', pattern: '/users/me', ...come },
  { name: 'any', ...come, ...say },
  { name: 'json', ...come, ...say, publication_data_format: 'json' },
  { name: 'object', ...come, ...say, publication_data_format: 'json_object' },
  { name: 'binary', ...come, ...say, publication_data_format: 'binary' },
  { name: 'latest', ...come, ...kept, force_recovery: true, force_recovery_mode: 'cache' },
  { name: 'eager', ...come, ...kept, force_recovery: true, force_recovery_mode: 'cache', auto_cache_recover: true },
  { name: 'placed', ...come, ...kept, force_positioning: true },
  { name: 'placeable', ...come, ...kept, allow_positioning: true },
  { name: 'recoverable', ...come, ...kept, allow_recovery: true },
  { name: 'historic', ...come, ...kept, allow_history_for_subscriber: true, allow_history_for_anonymous: true },
  { name: 'bare', ...come, ...kept },
];

const { server, proxy } = await behindProxy(Server.start({ client, channel: { patterns: true, namespaces } }));

let last = 0;
const unique = () => `${process.pid}-${(last += 1)}`;
const user = (sub) => (sub ? { token: token({ sub }) } : {});

for (const sdk of SDKS) {
  describe(sdk.name, () => {
    const peers = [];
    const peer = async (more, url = server.ws) => {
      const made = await new Peer(sdk, url, more).connect();
      peers.push(made);
      return made;
    };
    after(() => peers.forEach((it) => it.close()));

    test('a channel that lists its users opens to them alone', async () => {
      const [one, two, three] = [unique(), unique(), unique()];
      const name = `private:${unique()}#${one},${two}`;
      const [first, second, other, nobody] = await Promise.all([one, two, three, ''].map((sub) => peer(user(sub))));
      const rooms = [await first.join(name), await second.join(name)];
      for (const outside of [other, nobody]) await assert.rejects(outside.join(name), { code: 103 });
      await assert.rejects(first.join(`private:${unique()}`), { code: 103 }, 'without a list it is for nobody');
      await first.publish(name, { n: 1 });
      await assert.rejects(other.publish(name, { n: 2 }), { code: 103 });
      await until(() => rooms.every((room) => room.data.length === 1), 'the publication');
      assert.equal(rooms[1].publications[0].info.user, one);
    });

    test('names are what the expression of the namespace matches', async () => {
      const one = await peer();
      const name = `named:größe-${unique()}`;
      const room = await one.join(name);
      await one.publish(name, { n: 1 });
      await until(() => room.data.length === 1, 'the publication');
      assert.equal(room.publications[0].channel, name);
      for (const bad of [`named:${unique()}`, 'named:', `named:a b-${unique()}`]) {
        await assert.rejects(one.join(bad), { code: 107 }, bad);
        await assert.rejects(one.publish(bad, 1), { code: 107 }, bad);
      }
      await assert.rejects(one.join('any:ü'), { code: 107 }, 'ASCII where there is no expression');
    });

    test('the form of a name says which namespace it is of', async () => {
      const one = await peer();
      const name = `/users/${unique()}`;
      const room = await one.join(name);
      await one.publish(name, { n: 1 });
      await until(() => room.data.length === 1, 'the publication');
      await one.join('/users/me');
      await assert.rejects(one.publish('/users/me', 1), { code: 103 }, 'the more definite form counts');
      for (const unknown of [`/rooms/${unique()}`, `${name}/x`, '/users/', `users:${unique()}`]) {
        await assert.rejects(one.join(unknown), { code: 102 }, unknown);
      }
    });

    test('payloads are what the namespace takes, of clients and of the API', async () => {
      const one = await peer();
      const rows = [
        [sdk.pack({ a: 1 }), ['any', 'json', 'object', 'binary']],
        [sdk.pack([{}]), ['any', 'json', 'binary']],
        [sdk.pack(1), ['any', 'json', 'binary']],
      ];
      if (sdk === PROTOBUF_SDK) {
        const text = new TextEncoder().encode('{"a":');
        rows.push([Uint8Array.of(255, 0), ['any', 'binary']], [text, ['any', 'binary']], [Uint8Array.of(), ['binary']]);
      }
      const name = channel('json');
      const room = await one.join(name);
      for (const [payload, takers] of rows) {
        for (const namespace of ['any', 'json', 'object', 'binary']) {
          const said = one.client.publish(namespace === 'json' ? name : channel(namespace), payload);
          const what = `${JSON.stringify(payload)} in ${namespace}`;
          if (takers.includes(namespace)) await said;
          else await assert.rejects(said, { code: 107 }, what);
        }
      }
      await until(() => room.data.length === 3, 'what was taken');
      assert.deepEqual(room.data, [{ a: 1 }, [{}], 1]);
      const call = async (body) => (await (await server.request('publish', body)).json()).error?.code ?? 0;
      const bytes = Buffer.of(255, 0).toString('base64');
      assert.equal(await call({ channel: channel('json'), b64data: bytes }), 107);
      assert.equal(await call({ channel: channel('object'), data: [] }), 107);
      assert.equal(await call({ channel: channel('object'), data: {} }), 0);
      assert.equal(await call({ channel: channel('binary'), b64data: bytes }), 0);
    });

    test('a cache recovers the latest publication alone', async () => {
      const name = channel('latest');
      const one = await peer({}, proxy.ws);
      await server.publish(name, 0);
      const room = await one.join(name);
      assert.deepEqual([room.subscribed[0].wasRecovering, room.subscribed[0].recoverable], [false, true]);
      await server.publish(name, 1);
      await until(() => room.data.length === 1, 'live');
      proxy.cut();
      for (const n of [2, 3, 4]) await server.publish(name, n);
      proxy.mend();
      await until(() => room.data.length === 2, 'the latest');
      assert.equal(room.publications[1].offset, 5);
      proxy.cut();
      proxy.mend();
      await until(() => room.subscribed.length === 3, 'subscribed again');
      await server.publish(name, 5);
      await until(() => room.data.length === 3, 'live again');
      assert.deepEqual(room.data, [1, 4, 5]);
      assert.deepEqual(room.subscribed.slice(1).map((it) => [it.wasRecovering, it.recovered]), [[true, true], [true, true]]);
    });

    test('an eager cache gives it to every new subscriber', async () => {
      const name = channel('eager');
      const one = await peer();
      const early = await one.join(name);
      assert.deepEqual([early.subscribed[0].wasRecovering, early.subscribed[0].recovered], [true, false], 'none yet');
      for (const n of [1, 2]) await server.publish(name, n);
      const late = await (await peer()).join(name);
      await until(() => late.data.length === 1, 'the latest');
      assert.equal(late.subscribed[0].recovered, true);
      await server.publish(name, 3);
      await until(() => late.data.length === 2 && early.data.length === 3, 'live');
      assert.deepEqual([early.data, late.data], [[1, 2, 3], [2, 3]]);
    });

    test('positions and recovery are granted as the namespace says and the client asks', async () => {
      const one = await peer({}, proxy.ws);
      const rows = [];
      for (const [namespace, wishes, positioned, recoverable] of [
        ['placed', {}, true, false],
        ['placed', { recoverable: true }, true, false],
        ['placeable', {}, false, false],
        ['placeable', { positioned: true }, true, false],
        ['recoverable', {}, false, false],
        ['recoverable', { positioned: true }, false, false],
        ['recoverable', { recoverable: true }, true, true],
        ['historic', { positioned: true }, true, false],
        ['historic', { recoverable: true }, true, true],
        ['bare', { positioned: true, recoverable: true }, false, false],
      ]) {
        const name = channel(namespace);
        for (const n of [1, 2]) await server.publish(name, n);
        const row = `${namespace}, asked for ${JSON.stringify(wishes)}`;
        rows.push({ row, name, positioned, recoverable, room: await one.join(name, wishes) });
      }
      for (const { row, room, positioned, recoverable } of rows) {
        const [told] = room.subscribed;
        assert.deepEqual([told.positioned, told.recoverable], [positioned, recoverable], row);
        assert.equal(told.streamPosition?.offset, positioned ? 2 : undefined, row);
      }
      proxy.cut();
      for (const { name } of rows) await server.publish(name, 3);
      proxy.mend();
      await until(() => rows.every(({ room }) => room.subscribed.length === 2), 'subscribed again');
      for (const { name } of rows) await server.publish(name, 4);
      await until(() => rows.every(({ room }) => room.data.at(-1) === 4), 'live again');
      for (const { row, room, recoverable } of rows) {
        assert.deepEqual([room.subscribed[1].wasRecovering, room.subscribed[1].recovered], [recoverable, recoverable], row);
        assert.deepEqual(room.data, recoverable ? [3, 4] : [4], row);
      }
    });
  });
}

// Whoever is on another core than one of the channels hears of a batch when all of it is published.
for (const sdk of SDKS) {
  test(`${sdk.name}: what comes too late tells of a loss, and is recovered`, async () => {
    const late = await Server.start({
      runtime: { cores: 2 },
      client: { ...client, channel_position_max_time_lag: '1ms', recovery_max_publication_limit: 100_000 },
      channel: { namespaces: [{ name: 'chat', ...open, history_size: 100_000 }] },
    });
    try {
      const names = range(1, 24).map(() => channel());
      const one = await new Peer(sdk, late.ws).connect();
      const rooms = await Promise.all(names.map((name) => one.join(name, { joinLeave: false })));
      const codes = [];
      rooms.forEach((room) => room.sub.on('subscribing', ({ code }) => codes.push(code)));
      // Subscriptions the server makes cannot be made anew: their client is disconnected.
      const served = new Peer(sdk, late.ws, { token: token({ sub: unique(), channels: names }) });
      const heard = Object.fromEntries(names.map((name) => [name, []]));
      served.client.on('publication', (ctx) => heard[ctx.channel].push(sdk.unpack(ctx.data)));
      await served.connect();
      let sent = 0;
      await until(async () => {
        const commands = range(1, 150).flatMap(() => {
          sent += 1;
          return names.map((channel) => ({ publish: { channel, data: sent } }));
        });
        const response = await late.request('batch', { commands, parallel: true });
        assert.equal((await response.json()).replies.length, commands.length);
        return codes.includes(2500) && served.connecting.some(({ code }) => code === 3010);
      }, 'told of a loss');
      const all = [...rooms.map((room) => room.data), ...Object.values(heard)];
      await until(() => all.every((data) => data.length >= sent), 'all publications');
      for (const data of all) assert.deepEqual(data, range(1, sent));
      for (const room of rooms) assert.ok(room.subscribed.slice(1).every((it) => it.recovered));
      [one, served].forEach((it) => it.close());
    } finally {
      await late.stop();
    }
  });
}
