// Limits on operations (`client.rate_limit`), as SDKs meet them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Raw } from '../lib/raw.mjs';
import { Peer, SDKS } from '../lib/sdk.mjs';
import { Server } from '../lib/server.mjs';
import { SECRET, token } from '../lib/token.mjs';
import { channel, once, until } from '../lib/util.mjs';

const per = (rate, interval) => ({ enabled: true, buckets: [{ rate, interval }] });

/** Runs `body` against a server with these limits. */
async function limited(rateLimit, body) {
  const server = await Server.start({
    client: {
      allowed_origins: ['*'],
      allow_anonymous_connect_without_token: true,
      token: { hmac_secret_key: SECRET },
      rate_limit: rateLimit,
    },
  });
  try {
    await body(server);
  } finally {
    await server.stop();
  }
}

for (const sdk of SDKS) {
  test(`${sdk.name}: one publish too many fails with 111, the next second brings more`, () =>
    limited({ client_command: { enabled: true, publish: per(3, '1s') } }, async (server) => {
      const peer = await new Peer(sdk, server.ws).connect();
      const room = await peer.join(channel());
      const said = await Promise.allSettled([1, 2, 3, 4, 5].map((n) => peer.publish(room.sub.channel, n)));
      const errors = said.filter((it) => it.status === 'rejected').map((it) => it.reason);
      assert.deepEqual(errors.map((it) => [it.code, it.message, it.temporary]), Array(2).fill([111, 'too many requests', true]));
      await until(() => peer.publish(room.sub.channel, 6).then(() => true, () => false), 'a token comes back');
      await until(() => room.data.includes(6), 'and what was published with it arrives');
      assert.deepEqual(room.data, [1, 2, 3, 6]);
      assert.equal(peer.disconnected.length, 0);
      peer.close();
    }));

  test(`${sdk.name}: a subscribe too many is tried again by itself`, () =>
    limited({ client_command: { enabled: true, subscribe: per(2, '1s') } }, async (server) => {
      const peer = await new Peer(sdk, server.ws).connect();
      const rooms = [1, 2, 3].map(() => peer.listen(channel()));
      rooms.forEach((room) => room.sub.subscribe());
      await until(() => rooms.every((room) => room.subscribed.length === 1), 'all subscribed');
      const codes = rooms.flatMap((room) => room.errors.map((error) => error.code));
      assert.ok(codes.length > 0 && codes.every((code) => code === 111), codes.join());
      peer.close();
    }));
}

test('too many errors disconnect with 3013, and the SDK comes back', () =>
  limited({ client_error: { enabled: true, total: per(3, '60s') } }, async (server) => {
    const peer = await new Peer(SDKS[0], server.ws).connect();
    for (let n = 0; n < 4; n += 1) {
      await assert.rejects(peer.publish('locked:x', 1), { code: 103 });
    }
    const again = once(peer.client, 'connected');
    await until(() => peer.connecting.some((ctx) => ctx.code === 3013 && ctx.reason === 'too many requests'), '3013');
    await again;
    peer.close();
    const metrics = await fetch(`${server.http}/metrics`).then((answer) => answer.text());
    assert.match(metrics, /corecast_disconnects_over_limit_total\{core="\d+"\} 1/);
  }));

test('a user has its limits on all connections and cores together', () =>
  limited({ user_command: { enabled: true, publish: per(6, '60s') } }, async (server) => {
    const make = (sub) => new Peer(SDKS[0], server.ws, { token: token({ sub }) }).connect();
    const [a, b, c, other] = await Promise.all(['1', '1', '1', '2'].map(make));
    const published = await Promise.allSettled([a, b, c].flatMap((peer) => [1, 2, 3].map((n) => peer.publish('chat:u', n))));
    assert.equal(published.filter((it) => it.status === 'fulfilled').length, 6);
    await other.publish('chat:u', 1);
    // Who comes back has what was left.
    a.close();
    const again = await make('1');
    await assert.rejects(again.publish('chat:u', 2), { code: 111 });
    [b, c, other, again].forEach((peer) => peer.close());
  }));

test('an address has its limits on all connections together', () =>
  limited({ ip_command: { enabled: true, connect: per(4, '60s'), total: per(10, '60s') } }, async (server) => {
    const raws = [];
    for (let n = 0; n < 4; n += 1) raws.push(await Raw.connected(server.ws));
    const fifth = await Raw.open(server.ws);
    assert.equal((await fifth.call({ id: 1, connect: {} })).error.code, 111);
    const answers = [];
    for (const [n, raw] of raws.entries()) {
      for (const id of [2, 3]) answers.push(await raw.call({ id, presence: { channel: `chat:${n}` } }));
    }
    assert.deepEqual(answers.map((it) => it.error?.code), [...Array(6).fill(undefined), 111, 111]);
    [...raws, fifth].forEach((raw) => raw.end());
  }));
