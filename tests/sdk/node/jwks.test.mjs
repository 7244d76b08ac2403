// Keys from a JWKS endpoint with the unmodified SDK: connecting, refresh with a token of a new key.

import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import { createServer } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { Peer, SDKS } from '../lib/sdk.mjs';
import { Server } from '../lib/server.mjs';
import { until } from '../lib/util.mjs';

const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** A key of an issuer, with its id. */
function key(kid) {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const token = (claims, ttl) => {
    const exp = Math.floor(Date.now() / 1000) + ttl;
    const signed = `${part({ alg: 'EdDSA', kid })}.${part({ ...claims, exp })}`;
    return `${signed}.${sign(null, Buffer.from(signed), privateKey).toString('base64url')}`;
  };
  return { token, jwk: { ...publicKey.export({ format: 'jwk' }), kid, use: 'sig' } };
}

const known = key('known');
let issuer;
let asked = 0;
let server;
before(async () => {
  issuer = createServer((request, response) => {
    asked += 1;
    response.end(JSON.stringify({ keys: [known.jwk] }));
  });
  await new Promise((resolve) => issuer.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${issuer.address().port}/keys`;
  server = await Server.start({
    client: { allow_anonymous_connect_without_token: false, token: { jwks_public_endpoint: url } },
  });
});
after(async () => {
  await server?.stop();
  issuer?.close();
});

for (const sdk of SDKS) {
  describe(sdk.name, () => {
    test('a token is refreshed through the keys of the endpoint', async () => {
      let calls = 0;
      const getToken = async () => {
        calls += 1;
        return known.token({ sub: '42' }, 1);
      };
      const peer = await new Peer(sdk, server.ws, { token: known.token({ sub: '42' }, 1), getToken }).connect();
      await until(() => calls >= 3, 'three refreshes');
      assert.equal(peer.disconnected.length, 0);
      assert.equal(asked, 1);
      peer.close();
    });

    test('a token by a key of nobody ends it: no reconnect', async () => {
      const peer = new Peer(sdk, server.ws, { token: key('nobody').token({ sub: '42' }, 60) });
      peer.client.on('error', () => {});
      peer.client.connect();
      await until(() => peer.disconnected.length === 1, 'the end');
      assert.equal(peer.disconnected[0].code, 3500);
      peer.close();
    });
  });
}
