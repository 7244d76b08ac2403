// How clients of `uni_grpc` get in: by TLS, by what a proxy says of them, and by the example of the documentation.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { CODES, Listener, start } from '../lib/grpc.mjs';
import { Server, open } from '../lib/server.mjs';
import { token } from '../lib/token.mjs';
import { channel, until } from '../lib/util.mjs';

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../..');

test('TLS, a bad certificate that is refused, and a new one that drops nobody', async () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'corecast-grpc-'));
  const [cert, key, other] = ['cert.pem', 'key.pem', 'other.pem'].map((name) => path.join(directory, name));
  Server.certificate(cert, key);
  const server = await start({ uni_grpc: { tls: { enabled: true, cert_pem: cert, key_pem: key } } });
  const name = channel();
  const listen = (certificate) => {
    // Connections of their own: a client of an old certificate must not come by that of another.
    const own = { 'grpc.use_local_subchannel_pool': 1 };
    return new Listener(server.grpc, { subs: { [name]: {} } }, own, { certificate });
  };
  const listeners = [];
  const comesIn = async (certificate) => {
    const listener = listen(certificate);
    listeners.push(listener);
    await listener.connected();
  };
  try {
    const old = fs.readFileSync(cert);
    await comesIn(old);
    const stranger = listen();
    assert.equal((await stranger.ended()).code, CODES.UNAVAILABLE, 'without TLS');
    stranger.close();

    Server.certificate(other, key);
    server.child.kill('SIGHUP');
    await until(() => server.log.includes('uni_grpc.tls.key_pem does not go with cert_pem'), 'the refusal');
    await comesIn(old);

    Server.certificate(cert, key);
    server.child.kill('SIGHUP');
    await until(() => server.log.includes('the certificate of uni_grpc.tls was read anew'), 'the reload');
    await comesIn(fs.readFileSync(cert));
    const late = listen(old);
    assert.equal((await late.ended()).code, CODES.UNAVAILABLE);
    late.close();
    await server.publish(name, { text: 'x'.repeat(100_000) });
    for (const listener of listeners) {
      await until(() => listener.publications.length === 1, 'the publication');
      assert.equal(listener.status, null);
    }
  } finally {
    listeners.forEach((listener) => listener.close());
    await server.stop();
    fs.rmSync(directory, { recursive: true, force: true });
  }
});

test('metadata of a proxy names the user, and a token wins', async () => {
  const server = await start({
    client: {
      allow_anonymous_connect_without_token: false,
      user_id_http_header: 'X-User',
      subscribe_to_user_personal_channel: { enabled: true },
    },
    channel: { without_namespace: { ...open, allow_user_limited_channels: true } },
  });
  try {
    const metadata = { 'x-user': '7' };
    for (const [request, more, channels] of [
      [{}, { metadata }, ['#7']],
      [{ token: token({ sub: '8' }) }, { metadata }, ['#8']],
      [{ token: token({ sub: '8' }) }, {}, ['#8']],
    ]) {
      const listener = new Listener(server.grpc, request, {}, more);
      assert.deepEqual(Object.keys((await listener.connected()).subs), channels);
      listener.close();
    }
    for (const more of [{}, { metadata: { 'x-user': '' } }, { metadata: { 'x-other': '7' } }]) {
      const nobody = new Listener(server.grpc, {}, {}, more);
      assert.equal((await nobody.disconnected())[0], 3501);
      nobody.close();
    }
  } finally {
    await server.stop();
  }
});

test('the example of docs/OPERATIONS.md', async () => {
  const page = fs.readFileSync(path.join(ROOT, 'docs/OPERATIONS.md'), 'utf8');
  const [, example] = /## Listening by gRPC[^]*?```js\n([^]*?)```/.exec(page);
  assert.match(example, /127\.0\.0\.1:11000/);
  const server = await start();
  const file = path.join(server.directory, 'example.cjs');
  fs.writeFileSync(file, example.replace('127.0.0.1:11000', server.grpc));
  const env = { ...process.env, NODE_PATH: path.join(ROOT, 'tests/sdk/node_modules') };
  const child = spawn(process.execPath, [file], { cwd: ROOT, env, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (said += chunk));
  try {
    await until(() => said.includes('connect') || child.exitCode !== null, 'the connect push');
    await server.publish('news', { hello: 1 });
    await until(() => said.includes('news: {"hello":1}\n') || child.exitCode !== null, 'the publication');
    assert.equal(child.exitCode, null, said);
  } finally {
    child.kill();
    await server.stop();
  }
});
