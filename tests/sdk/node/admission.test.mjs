// How many may come, and what an SDK makes of a full house.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Peer, SDKS } from '../lib/sdk.mjs';
import { Server } from '../lib/server.mjs';
import { enter } from '../lib/tap.mjs';
import { SECRET, token } from '../lib/token.mjs';
import { channel, until } from '../lib/util.mjs';

/** Runs `body` with a way to make clients of a server with these limits. */
async function limited(sdk, limits, body) {
  const client = { allow_anonymous_connect_without_token: true, token: { hmac_secret_key: SECRET }, ...limits };
  const server = await Server.start({ client, runtime: { cores: 2 } });
  const peers = [];
  const make = (sub) => {
    const peer = new Peer(sdk, server.ws, sub ? { token: token({ sub }) } : {});
    peer.errors = [];
    peer.client.on('error', ({ type }) => peer.errors.push(type));
    peers.push(peer);
    return peer;
  };
  try {
    await body(make, server);
  } finally {
    peers.forEach((peer) => peer.close());
    await server.stop();
  }
}

for (const sdk of SDKS) {
  describe(sdk.name, () => {
    for (const limit of ['connection_limit', 'connection_limit_per_ip']) {
      test(`${limit}: one too many waits outside until another leaves`, () =>
        limited(sdk, { [limit]: 2 }, async (make, server) => {
          const [first, second] = [await make().connect(), await make().connect()];
          const third = make();
          third.client.connect();
          await until(() => third.errors.length >= 2, 'refused twice');
          assert.deepEqual([third.id, third.disconnected.length], [undefined, 0]);
          await server.publish(channel(), 1);
          first.close();
          await until(() => third.id, 'in');
          assert.deepEqual([second.connecting.length, third.errors.every((type) => type === 'transport')], [1, true]);
        }));
    }

    test('connection_rate_limit: a second brings more', () =>
      limited(sdk, { connection_rate_limit: 2 }, async (make) => {
        const began = Date.now();
        const peers = [make(), make(), make(), make()];
        await Promise.all(peers.map((peer) => peer.connect()));
        assert.ok(Date.now() - began > 500, 'four at once');
        assert.ok(peers.some((peer) => peer.errors.length > 0), 'nobody had to wait');
      }));

    test('user_connection_limit: a user has so many, others theirs', () =>
      limited(sdk, { user_connection_limit: 1 }, async (make) => {
        const [one, other] = [make('1'), make('2')];
        assert.deepEqual([await enter(one), await enter(other), await enter(make('1'))], [0, 0, 3504]);
        assert.deepEqual([await enter(make()), await enter(make())], [0, 0], 'nobody is no user');
        one.close();
        await until(async () => (await enter(make('1'))) === 0, 'there is room again');
        assert.deepEqual([one, other].map((peer) => peer.connecting.length), [1, 1]);
      }));

    test('channel_limit: of a client, and of what its token brings', () =>
      limited(sdk, { channel_limit: 2 }, async (make, server) => {
        const one = await make().connect();
        const [first] = [await one.join(channel()), await one.join(channel())];
        const name = channel();
        await assert.rejects(one.join(name), { code: 106 });
        first.sub.unsubscribe();
        const room = one.client.getSubscription(name);
        const subscribed = new Promise((resolve) => room.once('subscribed', resolve));
        room.subscribe();
        await subscribed;
        const many = token({ sub: '1', channels: [channel(), channel(), channel()] });
        assert.equal(await enter(new Peer(sdk, server.ws, { token: many })), 3505);
      }));
  });
}
