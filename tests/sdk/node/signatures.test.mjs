// Tokens of every algorithm, of connections and of subscriptions, and what their claims bring, with the SDK.

import assert from 'node:assert/strict';
import { createHmac, generateKeyPairSync, sign } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { SDKS } from '../lib/sdk.mjs';
import { Server, open } from '../lib/server.mjs';
import { enter, tapped } from '../lib/tap.mjs';
import { SECRET, token } from '../lib/token.mjs';
import { channel, until } from '../lib/util.mjs';

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const ed = generateKeyPairSync('ed25519');
const CURVES = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' };
const ec = Object.fromEntries(Object.entries(CURVES).map(([alg, namedCurve]) => [alg, generateKeyPairSync('ec', { namedCurve })]));
const pem = ({ publicKey }) => publicKey.export({ type: 'spki', format: 'pem' });

/** A token signed as its algorithm says. */
function made(alg, claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part({ alg, typ: 'JWT' })}.${part(claims)}`;
  const hash = `sha${alg.slice(2)}`;
  const by = {
    HS: () => createHmac(hash, SECRET).update(signed).digest(),
    RS: () => sign(hash, Buffer.from(signed), rsa.privateKey),
    ES: () => sign(hash, Buffer.from(signed), { key: ec[alg].privateKey, dsaEncoding: 'ieee-p1363' }),
    Ed: () => sign(null, Buffer.from(signed), ed.privateKey),
  };
  return `${signed}.${by[alg.slice(0, 2)]().toString('base64url')}`;
}

const namespaces = [{ name: 'chat', ...open }, { name: 'locked' }, { name: 'silent', presence: true, history_size: 10, history_ttl: '60s' }];
/** A server that knows the keys of all, and of the curves this one. */
const start = (curve) =>
  Server.start({
    client: {
      allow_anonymous_connect_without_token: false,
      token: { hmac_secret_key: SECRET, rsa_public_key: pem(rsa), ecdsa_public_key: pem(ec[curve]), ed25519_public_key: pem(ed) },
    },
    channel: { namespaces },
  });

const servers = {};
before(async () => {
  for (const curve of Object.keys(CURVES)) servers[curve] = await start(curve);
});
after(() => Promise.all(Object.values(servers).map((server) => server.stop())));

let last = 0;
const unique = () => `${process.pid}-${(last += 1)}`;

for (const sdk of SDKS) {
  describe(sdk.name, () => {
    const peers = [];
    after(() => peers.forEach((it) => it.close()));
    const make = (token, server = servers.ES256) => {
      peers.push(tapped(sdk, server.ws, { token }));
      return peers.at(-1);
    };
    const peer = (claims) => make(token({ sub: unique(), ...claims })).connect();

    for (const alg of ['HS256', 'HS384', 'HS512', 'RS256', 'RS384', 'RS512', 'ES256', 'ES384', 'ES512', 'EdDSA']) {
      test(alg, async () => {
        const [sub, name] = [unique(), `$${channel()}`];
        const one = await make(made(alg, { sub }), servers[alg]).connect();
        const room = await one.join(name, { token: made(alg, { sub, channel: name, info: { alg } }) });
        await one.publish(name, 1);
        await until(() => room.publications.length === 1, 'its own publication');
        const { info } = room.publications[0];
        assert.deepEqual([info.user, sdk.unpack(info.chanInfo)], [sub, { alg }]);
        if (alg.startsWith('ES')) {
          const other = Object.keys(CURVES).find((it) => it !== alg);
          assert.equal(await enter(make(made(alg, { sub }), servers[other])), 3500, 'a key of another curve');
        }
      });
    }

    test('info in base64, an end of its own, and no end', async () => {
      const b64info = Buffer.from('{"name":"Ann"}').toString('base64');
      const expire_at = Math.floor(Date.now() / 1000) + 500;
      const exp = expire_at + 500;
      const one = await peer({ b64info, expire_at, exp });
      const told = (it) => it.told.find(({ id }) => id === 1).connect;
      assert.ok(told(one).expires && told(one).ttl > 490 && told(one).ttl <= 500, `${told(one).ttl}`);
      const room = await one.join(channel());
      await one.publish(room.sub.channel, 1);
      await until(() => room.publications.length === 1, 'its own publication');
      assert.deepEqual(sdk.unpack(room.publications[0].info.connInfo), { name: 'Ann' });
      assert.ok(!told(await peer({ expire_at: 0, exp })).expires);
    });

    test('subscriptions with info, data and options of their own', async () => {
      const [kept, plain, hidden] = [channel(), channel(), channel()];
      const off = { value: false };
      const subs = {
        [kept]: { info: { role: 'x' }, data: { hello: 1 } },
        [plain]: { b64info: Buffer.from('[2]').toString('base64'), override: { force_recovery: off } },
        [hidden]: { override: { presence: off } },
      };
      const { ES256: server } = servers;
      const one = make(token({ sub: unique(), subs, channels: [channel()] }));
      const subscribed = {};
      one.client.on('subscribed', (ctx) => (subscribed[ctx.channel] = ctx));
      await one.connect();
      await until(() => Object.keys(subscribed).length === 3, 'three subscriptions');
      assert.deepEqual(Object.keys(subscribed).sort(), [kept, plain, hidden].sort());
      assert.deepEqual([kept, plain, hidden].map((name) => subscribed[name].recoverable), [true, false, true]);
      assert.deepEqual(sdk.unpack(subscribed[kept].data), { hello: 1 });
      const infoIn = async (channel) => (await server.api('presence', { channel })).presence[one.id]?.chan_info;
      assert.deepEqual([await infoIn(kept), await infoIn(plain)], [{ role: 'x' }, [2]]);
      assert.equal((await server.api('presence_stats', { channel: hidden })).num_clients, 0);
    });

    test('capabilities allow what the options do not', async () => {
      const { ES256: server } = servers;
      const [exact, numbered] = [channel('locked'), channel('silent')];
      const one = await peer({
        caps: [
          { channels: [exact], allow: ['sub'] },
          { channels: ['silent:*'], match: 'wildcard', allow: ['sub', 'prs'] },
          { channels: [`^${numbered}$`], match: 'regex', allow: ['pub', 'hst'] },
        ],
      });
      await one.join(exact);
      await assert.rejects(one.publish(exact, 1), { code: 103 }, 'only to subscribe');
      await assert.rejects(one.join(channel('locked')), { code: 103 }, 'only there');
      const room = await one.join(numbered);
      await one.publish(numbered, { n: 1 });
      await until(() => room.data.length === 1, 'its own publication');
      assert.deepEqual(Object.keys((await room.sub.presence()).clients), [one.id]);
      assert.equal((await room.sub.history({ limit: 5 })).publications.length, 1);
      const other = await one.join(channel('silent'));
      await assert.rejects(one.publish(other.sub.channel, 1), { code: 103 });
      await assert.rejects(other.sub.history({ limit: 5 }), { code: 103 });
      await assert.rejects((await peer()).join(numbered), { code: 103 }, 'only with that token');
      assert.equal((await server.api('presence_stats', { channel: numbered })).num_clients, 1);
    });
  });
}
