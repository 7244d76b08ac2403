// Tokens that are early, channels the server names, servers that do not ping.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Peer, SDKS } from '../lib/sdk.mjs';
import { Server } from '../lib/server.mjs';
import { SECRET, token } from '../lib/token.mjs';
import { channel, sleep, until } from '../lib/util.mjs';

let server;
before(async () => {
  server = await Server.start({
    client: {
      allow_anonymous_connect_without_token: true,
      allowed_origins: ['*'],
      token: { hmac_secret_key: SECRET },
      ping_interval: '1s',
      pong_timeout: -1,
      subscribe_to_user_personal_channel: { enabled: true },
    },
    channel: { without_namespace: { channel_regex: '^[a-z]+$' } },
  });
});
after(() => server?.stop());

const now = () => Math.floor(Date.now() / 1000);

for (const sdk of SDKS) {
  describe(sdk.name, () => {
    test('of a token that is not valid yet another one is asked for', async () => {
      let asked = 0;
      const getToken = async () => {
        asked += 1;
        return token({ sub: '42', nbf: now() + (asked === 1 ? 3600 : 0) });
      };
      const peer = await new Peer(sdk, server.ws, { getToken }).connect();
      assert.deepEqual([asked, peer.disconnected.length], [2, 0]);
      peer.close();
    });

    test('channels of users and of tokens have the names they have', async () => {
      const sub = `józef ${sdk.name} ${channel()}`.replaceAll(':', '-');
      const [own, given, added] = [`#${sub}`, `Новости ${sub}`, `ü${'x'.repeat(300)}`];
      const peer = new Peer(sdk, server.ws, { token: token({ sub, channels: [given] }) });
      const subscribed = [];
      const heard = [];
      peer.client.on('subscribed', (ctx) => subscribed.push(ctx.channel));
      peer.client.on('publication', (ctx) => heard.push(ctx.channel));
      await peer.connect();
      await until(() => subscribed.length === 2, 'both');
      await server.api('subscribe', { user: sub, channel: added });
      await until(() => subscribed.length === 3, 'and the one of the server');
      assert.deepEqual([...subscribed].sort(), [own, given, added].sort());
      for (const name of [own, given, added]) await server.publish(name, { n: 1 });
      await until(() => heard.length === 3, 'all are heard');
      assert.deepEqual(heard, [own, given, added]);
      await assert.rejects(peer.publish(given, { n: 2 }), { code: 107 }, 'clients may not say that name');
      peer.close();
    });

    test('who need not answer pings stays', async () => {
      const peer = await new Peer(sdk, server.ws, { maxServerPingDelay: 500 }).connect();
      // Long enough for a server that waits for answers, and for an SDK that waits for pings.
      await sleep(2200);
      assert.deepEqual([peer.connecting.length, peer.disconnected.length], [1, 0]);
      peer.close();
    });
  });
}
