// The SDK over wss://, in both encodings, and a certificate that is changed beneath it.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import https from 'node:https';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import WebSocket from 'ws';
import { Peer, SDKS } from '../lib/sdk.mjs';
import { Server } from '../lib/server.mjs';
import { channel, once, range, until } from '../lib/util.mjs';

let server;
before(async () => (server = await Server.startTls({ websocket: { compression: true } })));
after(() => server?.stop());

/** `ws` with a certificate it trusts. */
const trusting = (ca) =>
  class extends WebSocket {
    constructor(url, protocols) {
      super(url, protocols, { ca });
    }
  };

for (const sdk of SDKS) {
  describe(sdk.name, () => {
    const peers = [];
    const peer = async () => {
      const made = new Peer(sdk, server.ws, { websocket: trusting(server.ca) });
      peers.push(made);
      return made.connect();
    };
    after(() => peers.forEach((p) => p.close()));

    test('publications, presence and history over TLS', async () => {
      const name = channel();
      const [alice, bob] = [await peer(), await peer()];
      const [hers, his] = [await alice.join(name), await bob.join(name)];
      const sent = [{ text: 'Grüße, 世界 🎉' }, 'x'.repeat(50_000), ...range(1, 80).map((n) => ({ n }))];
      await Promise.all(sent.map((value) => alice.publish(name, value)));
      await until(() => hers.data.length === sent.length && his.data.length === sent.length, 'all publications');
      assert.deepEqual(his.data, sent);
      assert.deepEqual(hers.data, sent);
      assert.equal(Object.keys((await hers.sub.presence()).clients).length, 2);
      const { publications } = await his.sub.history({ limit: 100 });
      assert.deepEqual(publications.map((p) => sdk.unpack(p.data)), sent);
    });

    test('what was missed during a disconnect is recovered', async () => {
      const name = channel();
      const [alice, bob] = [await peer(), await peer()];
      const room = await bob.join(name);
      bob.client.disconnect();
      for (const n of range(1, 20)) await alice.publish(name, { n });
      const connected = once(bob.client, 'connected');
      bob.client.connect();
      await connected;
      await until(() => room.data.length === 20, 'recovered publications');
      assert.deepEqual(room.data.map((d) => d.n), range(1, 20));
    });
  });
}

test('a client that does not trust the certificate does not get in, and others notice nothing', async () => {
  const stranger = new WebSocket(server.ws);
  const error = await new Promise((resolve) => stranger.once('error', resolve));
  assert.match(error.code, /SELF_SIGNED|UNABLE_TO_VERIFY/);
});

test('SIGHUP brings a new certificate to new connections and drops nobody', async () => {
  const [sdk] = SDKS;
  const old = new Peer(sdk, server.ws, { websocket: trusting(server.ca) });
  await old.connect();
  const room = await old.join(channel());
  const key = path.join(path.dirname(server.certificate), 'key.pem');
  Server.certificate(server.certificate, key);
  server.child.kill('SIGHUP');
  await until(() => server.log.includes('was read anew'), 'reload');
  server.ca = fs.readFileSync(server.certificate);
  const fresh = new Peer(sdk, server.ws, { websocket: trusting(server.ca) });
  await fresh.connect();
  await fresh.publish(room.sub.channel, { after: 'reload' });
  await until(() => room.data.length === 1, 'publication');
  assert.deepEqual([old.disconnected, old.connecting.length], [[], 1]);
  old.close();
  fresh.close();
});

test('https offers http/1.1', async () => {
  const socket = await new Promise((resolve, reject) => {
    const request = https.get(`${server.http}/health`, { ca: server.ca, ALPNProtocols: ['h2', 'http/1.1'], agent: false });
    request.once('response', (response) => resolve(response.resume().socket)).once('error', reject);
  });
  assert.equal(socket.alpnProtocol, 'http/1.1');
});
