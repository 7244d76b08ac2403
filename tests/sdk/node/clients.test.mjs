// Who is let in, as whom and with what: tokens of two kinds and two ages, a trusted header, channels of users, blocking.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Peer, SDKS } from '../lib/sdk.mjs';
import { Server, open } from '../lib/server.mjs';
import { enter, tapped } from '../lib/tap.mjs';
import { SECRET, token } from '../lib/token.mjs';
import { channel, until } from '../lib/util.mjs';

const now = () => Math.floor(Date.now() / 1000);
const [OLD, SUBSCRIPTIONS, TOO_OLD] = ['the secret before', 'a secret of subscriptions', 'long gone'];
const namespaces = [
  { name: 'chat', ...open },
  { name: 'own', ...open },
];
const personal = { enabled: true, personal_channel_namespace: 'own' };
const client = {
  disallow_anonymous_connection_tokens: true,
  user_id_http_header: 'X-User-Id',
  connect_include_server_time: true,
  subscribe_to_user_personal_channel: personal,
  token: { hmac_secret_key: SECRET, hmac_previous_secret_key: OLD, hmac_previous_secret_key_valid_until: now() + 3600 },
  subscription_token: {
    enabled: true,
    hmac_secret_key: SUBSCRIPTIONS,
    hmac_previous_secret_key: TOO_OLD,
    hmac_previous_secret_key_valid_until: now() - 10,
  },
};

let server;
let single;
before(async () => {
  const start = (client) => Server.start({ client, runtime: { cores: 2 }, channel: { namespaces } });
  server = await start(client);
  single = await start({ ...client, subscribe_to_user_personal_channel: { ...personal, single_connection: true } });
});
after(async () => {
  await server?.stop();
  await single?.stop();
});

let last = 0;
const unique = () => `${process.pid}-${(last += 1)}`;

for (const sdk of SDKS) {
  describe(sdk.name, () => {
    const peers = [];
    after(() => peers.forEach((it) => it.close()));
    const make = (more, url = server.ws) => {
      peers.push(tapped(sdk, url, more));
      return peers.at(-1);
    };
    const peer = (more, url) => make(more, url).connect();
    const of = (sub, more) => ({ token: token({ sub, ...more }) });
    /** Who says it is another says to others. */
    const userOf = async (one) => {
      const room = await one.join(channel());
      await one.publish(room.sub.channel, 1);
      await until(() => room.publications.length === 1, 'its own publication');
      return room.publications[0].info.user;
    };

    test('every user has a channel of its own, on every connection', async () => {
      const sub = unique();
      const subscribed = [];
      const heard = [];
      const ready = async (sub) => {
        const one = make(of(sub));
        const at = heard.push([]) - 1;
        one.client.on('subscribed', (ctx) => subscribed.push(ctx.channel));
        one.client.on('publication', (ctx) => heard[at].push([ctx.channel, sdk.unpack(ctx.data)]));
        return one.connect();
      };
      const name = `own:#${sub}`;
      for (const it of [sub, sub, unique()]) await ready(it);
      await until(() => subscribed.length === 3, 'all subscribed');
      assert.deepEqual(subscribed.slice(0, 2), [name, name]);
      await server.publish(name, { n: 1 });
      await until(() => heard[0].length === 1 && heard[1].length === 1, 'the publication on both');
      assert.deepEqual(heard, [[[name, { n: 1 }]], [[name, { n: 1 }]], []]);
      assert.equal((await server.api('presence_stats', { channel: name })).num_clients, 2);
    });

    test('one connection of a user: the newest, and the others end with 3504', async () => {
      const [sub, another] = [unique(), unique()];
      const [first, other] = [await peer(of(sub), single.ws), await peer(of(another), single.ws)];
      const second = await peer(of(sub), single.ws);
      await until(() => first.disconnected.length === 1, 'the first ends');
      assert.deepEqual([first.disconnected[0].code, first.disconnected[0].reason], [3504, 'connection limit']);
      const third = await peer(of(sub), single.ws);
      await until(() => second.disconnected.length === 1, 'the second ends');
      assert.deepEqual([first, other, third].map((it) => it.connecting.length), [1, 1, 1]);
      assert.deepEqual([await userOf(third), await userOf(other)], [sub, another]);
    });

    test('the reply to connect tells the time', async () => {
      const one = await peer();
      const { time } = one.told.find((it) => it.id === 1).connect;
      assert.ok(Math.abs(Number(time) - Date.now()) < 60_000, `${time}`);
    });

    test('a token without a user is refused with 3507, no token is not', async () => {
      assert.equal(await enter(make(of(''))), 3507);
      assert.equal(await enter(make()), 0);
    });

    test('a header of the proxy names the user, and a token wins', async () => {
      const [sub, other] = [unique(), unique()];
      const one = await peer({ headers: { 'X-User-Id': sub } });
      assert.equal(await userOf(one), sub);
      const both = await peer({ headers: { 'X-User-Id': sub }, ...of(other) });
      assert.equal(await userOf(both), other);
      await server.api('disconnect', { user: sub });
      await until(() => one.disconnected.length === 1, 'the API finds it by that name');
      assert.equal(both.disconnected.length, 0);
    });

    test('the secret before is good until its time is up', async () => {
      const sub = unique();
      assert.equal(await userOf(await peer({ token: token({ sub }, { secret: OLD }) })), sub);
      assert.equal(await enter(make({ token: token({ sub }, { secret: SUBSCRIPTIONS }) })), 3500);
      const one = await peer(of(sub));
      const name = `$${channel()}`;
      const claims = { sub, channel: name };
      await assert.rejects(one.join(name, { token: token(claims, { secret: TOO_OLD }) }), { code: 103 });
    });

    test('tokens of subscriptions have a secret of their own', async () => {
      const sub = unique();
      const one = await peer(of(sub));
      const name = `$${channel()}`;
      const claims = { sub, channel: name, info: { role: 'admin' } };
      const room = await one.join(name, { token: token(claims, { secret: SUBSCRIPTIONS }) });
      await one.publish(name, 1);
      await until(() => room.publications.length === 1, 'the publication');
      assert.deepEqual(sdk.unpack(room.publications[0].info.chanInfo), { role: 'admin' });
      const other = `$${channel()}`;
      await assert.rejects(one.join(other, { token: token({ sub, channel: other }) }), { code: 103 });
    });

    test('a blocked user is out until it is let in again, or its time is up', async () => {
      const [sub, other] = [unique(), unique()];
      const [one, two, stays] = [await peer(of(sub)), await peer(of(sub)), await peer(of(other))];
      await server.api('block_user', { user: sub });
      await until(() => one.disconnected.length === 1 && two.disconnected.length === 1, 'both end');
      assert.deepEqual([one, two].map((it) => it.disconnected[0].code), [3507, 3507]);
      assert.equal(await enter(make(of(sub))), 3507);
      await server.api('unblock_user', { user: sub });
      assert.equal(await enter(make(of(sub))), 0);
      await server.api('block_user', { user: sub, expire_at: now() + 1 });
      await until(async () => (await enter(make(of(sub)))) === 0, 'in again by itself');
      assert.equal(stays.disconnected.length, 0);
    });

    test('the API gives connections another time and another info, and tells them', async () => {
      const sub = unique();
      const one = await peer({ token: token({ sub, info: { name: 'Ann' } }, { ttl: 60 }), getToken: async () => token({ sub }) });
      const other = await peer(of(unique()));
      const refreshes = (it) => it.told.flatMap(({ push }) => (push?.refresh ? [push.refresh] : []));
      await server.api('refresh', { user: sub, expire_at: now() + 600, info: { name: 'Bob' } });
      const [first] = await until(() => refreshes(one).length === 1 && refreshes(one), 'the push');
      assert.equal(first.expires, true);
      assert.ok(first.ttl > 590 && first.ttl <= 600, `${first.ttl}`);
      const room = await one.join(channel());
      await one.publish(room.sub.channel, 1);
      await until(() => room.publications.length === 1, 'its own publication');
      assert.deepEqual(sdk.unpack(room.publications[0].info.connInfo), { name: 'Bob' });
      await server.api('refresh', { user: sub });
      await until(() => refreshes(one).length === 2, 'the push');
      assert.ok(!refreshes(one)[1].expires, 'no end any more');
      await server.api('refresh', { user: sub, expired: true });
      await until(() => one.connecting.length === 2, 'the end');
      assert.equal(one.connecting[1].code, 3005);
      await until(() => one.client.state === 'connected', 'back with another token');
      assert.deepEqual([refreshes(other).length, other.connecting.length], [0, 1]);
    });

    test('disconnect spares the clients of the whitelist', async () => {
      const sub = unique();
      const [one, two, three] = [await peer(of(sub)), await peer(of(sub)), await peer(of(sub))];
      await server.api('disconnect', { user: sub, whitelist: [one.id, three.id] });
      await until(() => two.disconnected.length === 1, 'the one that is not on it');
      assert.equal(two.disconnected[0].code, 3503);
      assert.deepEqual([await userOf(one), await userOf(three)], [sub, sub]);
      assert.equal(one.connecting.length + three.connecting.length, 2);
    });
  });
}

test('a personal channel outside of every namespace', async () => {
  const plain = await Server.start({ client: { ...client, subscribe_to_user_personal_channel: { enabled: true } } });
  try {
    const one = new Peer(SDKS[0], plain.ws, { token: token({ sub: '42' }) });
    const heard = [];
    one.client.on('publication', (ctx) => heard.push([ctx.channel, ctx.data]));
    await one.connect();
    await plain.publish('#42', { n: 1 });
    await until(() => heard.length === 1, 'the publication');
    assert.deepEqual(heard, [['#42', { n: 1 }]]);
    one.close();
  } finally {
    await plain.stop();
  }
});
