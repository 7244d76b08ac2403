// What the server API takes back from tokens that are out already, and what it and tokens say of one subscriber.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Peer, SDKS } from '../lib/sdk.mjs';
import { Server } from '../lib/server.mjs';
import { SECRET, token } from '../lib/token.mjs';
import { channel, until } from '../lib/util.mjs';

let server;
before(async () => {
  server = await Server.start({
    client: { allow_anonymous_connect_without_token: true, allowed_origins: ['*'], token: { hmac_secret_key: SECRET } },
    runtime: { cores: 2 },
  });
});
after(() => server?.stop());

let last = 0;
const unique = () => `${process.pid}-${(last += 1)}`;
const now = () => Math.floor(Date.now() / 1000);

for (const sdk of SDKS) {
  describe(sdk.name, () => {
    test('a connection whose token was revoked asks for another one', async () => {
      const [jti, sub] = [unique(), unique()];
      let asked = 0;
      const getToken = async () => {
        asked += 1;
        return token({ sub, jti: asked === 1 ? jti : unique() });
      };
      const [one, other] = await Promise.all([
        new Peer(sdk, server.ws, { getToken }).connect(),
        new Peer(sdk, server.ws, { token: token({ sub, jti: unique() }) }).connect(),
      ]);
      await server.api('revoke_token', { uid: jti });
      await until(() => one.connecting.some((it) => it.code === 3014), 'told why');
      await until(() => asked === 2 && one.client.state === 'connected', 'and back with the other one');
      assert.deepEqual([one.disconnected.length, other.disconnected.length], [0, 0]);
      assert.ok(!other.connecting.some((it) => it.code === 3014), 'no other connection');
      one.close();
      other.close();
    });

    test('with no other token it ends for good', async () => {
      const [jti, sub] = [unique(), unique()];
      const getToken = async () => token({ sub, jti });
      const one = await new Peer(sdk, server.ws, { getToken }).connect();
      await server.api('revoke_token', { uid: jti });
      await until(() => one.disconnected.length === 1, 'ended');
      assert.equal(one.disconnected[0].code, 3500);
    });

    test('a user whose tokens were invalidated comes back with a newer one', async () => {
      const sub = unique();
      let asked = 0;
      const getToken = async () => {
        asked += 1;
        return token({ sub, iat: now() - (asked === 1 ? 60 : 0) });
      };
      const old = await new Peer(sdk, server.ws, { getToken }).connect();
      const fresh = await new Peer(sdk, server.ws, { token: token({ sub, iat: now() }) }).connect();
      await server.api('invalidate_user_tokens', { user: sub, issued_before: now() - 10 });
      await until(() => asked === 2 && old.client.state === 'connected', 'back with a newer one');
      assert.ok(old.connecting.some((it) => it.code === 3014));
      assert.deepEqual([old.disconnected.length, fresh.disconnected.length], [0, 0]);
      old.close();
      fresh.close();
    });

    test('a subscription whose token was invalidated asks for another one', async () => {
      const [name, sub] = [`$${channel()}`, unique()];
      let asked = 0;
      const getToken = async () => {
        asked += 1;
        return token({ sub, channel: name, iat: now() - (asked === 1 ? 60 : 0) });
      };
      const peer = await new Peer(sdk, server.ws, { token: token({ sub, iat: now() - 60 }) }).connect();
      const room = await peer.join(name, { getToken });
      await server.api('invalidate_user_tokens', { user: sub, channel: name, issued_before: now() - 10 });
      await until(() => room.subscribed.length === 2, 'subscribed anew');
      assert.equal(asked, 2);
      assert.deepEqual([room.unsubscribed.length, peer.disconnected.length], [0, 0]);
      await server.publish(name, { n: 1 });
      await until(() => room.data.length === 1, 'and served');
      peer.close();
    });

    test('a hidden subscriber hears and is not seen', async () => {
      const name = channel();
      const watcher = await new Peer(sdk, server.ws).connect();
      const room = await watcher.join(name);
      const hidden = { presence: { value: false }, join_leave: { value: false } };
      const quiet = new Peer(sdk, server.ws, { token: token({ sub: unique(), subs: { [name]: { override: hidden } } }) });
      const heard = [];
      quiet.client.on('publication', (ctx) => heard.push(sdk.unpack(ctx.data).n));
      await quiet.connect();
      const seen = await new Peer(sdk, server.ws).connect();
      await server.api('subscribe', { user: '', client: seen.id, channel: name });
      await until(() => room.joined.includes(seen.id), 'the one that is seen joins');
      await server.publish(name, { n: 1 });
      await until(() => heard.length === 1, 'the hidden one hears');
      assert.ok(!room.joined.includes(quiet.id), 'no join of the hidden one');
      const present = Object.keys((await room.sub.presence()).clients).sort();
      assert.deepEqual(present, [watcher.id, seen.id].sort());
      quiet.close();
      seen.close();
      await until(() => room.left.includes(seen.id), 'the one that was seen leaves');
      assert.ok(!room.left.includes(quiet.id), 'no leave of the hidden one');
      watcher.close();
    });
  });
}
