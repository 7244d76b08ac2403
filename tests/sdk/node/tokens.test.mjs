// Tokens with the unmodified SDK: connecting, expiry and refresh of connections and subscriptions, refusals.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Raw } from '../lib/raw.mjs';
import { Peer, SDKS } from '../lib/sdk.mjs';
import { Server } from '../lib/server.mjs';
import { SECRET, token } from '../lib/token.mjs';
import { channel, until } from '../lib/util.mjs';

let server;
before(async () => {
  server = await Server.start({
    client: {
      allow_anonymous_connect_without_token: false,
      expired_close_delay: '2s',
      expired_sub_close_delay: '2s',
      token: { hmac_secret_key: SECRET },
    },
  });
});
after(() => server?.stop());

/** Counts calls and gives what `make` makes. */
function source(make) {
  const get = async (ctx) => {
    get.calls += 1;
    return make(ctx);
  };
  get.calls = 0;
  return get;
}

for (const sdk of SDKS) {
  describe(sdk.name, () => {
    test('a token says who the client is', async () => {
      const peer = await new Peer(sdk, server.ws, { token: token({ sub: '42', info: { name: 'Ann' } }) }).connect();
      const name = channel();
      const room = await peer.join(name);
      await peer.publish(name, { n: 1 });
      await until(() => room.publications.length === 1, 'the publication');
      const { info } = room.publications[0];
      assert.equal(info.user, '42');
      assert.deepEqual(sdk.unpack(info.connInfo), { name: 'Ann' });
      peer.close();
    });

    test('a short token is refreshed, again and again, on one connection', async () => {
      const getToken = source(() => token({ sub: '42' }, { ttl: 1 }));
      const peer = await new Peer(sdk, server.ws, { token: token({ sub: '42' }, { ttl: 1 }), getToken }).connect();
      await until(() => getToken.calls >= 3, 'three refreshes');
      assert.equal(peer.connecting.length, 1);
      assert.equal(peer.disconnected.length, 0);
      peer.close();
    });

    test('a token that is not refreshed ends the connection, and a new one brings it back', async () => {
      let slow = true;
      const getToken = source(() => {
        if (slow) throw new Error('the backend is down');
        return token({ sub: '42' });
      });
      const peer = await new Peer(sdk, server.ws, { token: token({ sub: '42' }, { ttl: 3 }), getToken }).connect();
      peer.client.on('error', () => {});
      await until(() => peer.connecting.some((ctx) => ctx.code === 3005), 'connection expired');
      slow = false;
      await until(() => peer.client.state === 'connected', 'back');
      peer.close();
    });

    test('an expired token makes the SDK ask for another', async () => {
      const getToken = source(() => token({ sub: '42' }));
      const peer = new Peer(sdk, server.ws, { token: token({ sub: '42' }, { ttl: -10 }), getToken });
      peer.client.on('error', () => {});
      await peer.connect();
      assert.equal(getToken.calls, 1);
      peer.close();
    });

    test('an invalid token ends it: no reconnect', async () => {
      const forged = token({ sub: '42' }, { secret: 'other' });
      const none = token({ sub: '42' }, { header: { alg: 'none' } });
      for (const bad of ['bad', forged, none]) {
        const peer = new Peer(sdk, server.ws, { token: bad });
        peer.client.connect();
        await until(() => peer.disconnected.length === 1, 'disconnected');
        assert.equal(peer.disconnected[0].code, 3500);
        assert.equal(peer.connecting.length, 1);
      }
    });

    test('private channels open by a token, which is refreshed', async () => {
      const peer = await new Peer(sdk, server.ws, { token: token({ sub: '42' }) }).connect();
      const name = `$${channel()}`;
      const of = (ttl) => token({ sub: '42', channel: name, info: { role: 'admin' } }, { ttl });
      const getToken = source(() => of(1));
      const room = await peer.join(name, { token: of(1), getToken });
      await until(() => getToken.calls >= 3, 'three refreshes');
      assert.deepEqual([room.subscribed.length, room.unsubscribed.length], [1, 0]);
      await peer.publish(name, { n: 1 });
      await until(() => room.publications.length === 1, 'the publication');
      assert.deepEqual(sdk.unpack(room.publications[0].info.chanInfo), { role: 'admin' });
      peer.close();
    });

    test('a subscription that is not refreshed ends and comes back', async () => {
      const peer = await new Peer(sdk, server.ws, { token: token({ sub: '42' }) }).connect();
      const name = `$${channel()}`;
      let slow = true;
      const getToken = source(() => {
        if (slow) throw new Error('the backend is down');
        return token({ sub: '42', channel: name });
      });
      const room = peer.listen(name, { token: token({ sub: '42', channel: name }, { ttl: 3 }), getToken });
      const again = [];
      room.sub.on('subscribing', (ctx) => again.push(ctx.code));
      room.sub.subscribe();
      await until(() => again.includes(2501), 'subscription expired');
      slow = false;
      await until(() => room.subscribed.length === 2, 'back');
      assert.equal(peer.connecting.length, 1);
      peer.close();
    });

    test('no token, a forged one, or one of somebody else do not open it', async () => {
      const name = `$${channel()}`;
      const forged = token({ sub: '42', channel: name }, { secret: 'other' });
      for (const [more, code] of [[{}, 103], [{ token: forged }, 103]]) {
        const peer = await new Peer(sdk, server.ws, { token: token({ sub: '42' }) }).connect();
        await assert.rejects(peer.join(name, more), { code });
        peer.close();
      }
      for (const claims of [{ sub: '43', channel: name }, { sub: '42', channel: `${name}x` }]) {
        const peer = await new Peer(sdk, server.ws, { token: token({ sub: '42' }) }).connect();
        peer.listen(name, { token: token(claims) }).sub.subscribe();
        await until(() => peer.disconnected.length === 1, 'disconnected');
        assert.equal(peer.disconnected[0].code, 3500);
      }
    });

    test('subscriptions of the token: live, and recovered after a break', async () => {
      const name = channel();
      const peer = new Peer(sdk, server.ws, { token: token({ sub: '42', channels: [name] }) });
      const heard = [];
      const subscribed = [];
      peer.client.on('publication', (ctx) => heard.push(sdk.unpack(ctx.data).n));
      peer.client.on('subscribed', (ctx) => subscribed.push(ctx));
      await peer.connect();
      await until(() => subscribed.length === 1, 'subscribed');
      await server.publish(name, { n: 1 });
      await until(() => heard.length === 1, 'live');
      await server.api('disconnect', { user: '42', disconnect: { code: 4000, reason: 'again' } });
      await server.publish(name, { n: 2 });
      await until(() => subscribed.length === 2 && heard.length === 2, 'back, with what was missed');
      await server.publish(name, { n: 3 });
      await until(() => heard.length === 3, 'live again');
      assert.deepEqual(heard, [1, 2, 3]);
      assert.deepEqual(subscribed.map((ctx) => [ctx.channel, ctx.wasRecovering, ctx.recovered]), [
        [name, false, false],
        [name, true, true],
      ]);
      peer.close();
    });
  });
}

test('a sub_refresh with an expired token is an error, not an eternal subscription', async () => {
  const raw = await Raw.open(server.ws);
  await raw.call({ id: 1, connect: { token: token({ sub: '42' }) } });
  const name = `$${channel()}`;
  await raw.call({ id: 2, subscribe: { channel: name, token: token({ sub: '42', channel: name }, { ttl: 60 }) } });
  const old = token({ sub: '42', channel: name }, { ttl: -60 });
  const { error } = await raw.call({ id: 3, sub_refresh: { channel: name, token: old } });
  assert.equal(error.code, 109);
  raw.end();
});
