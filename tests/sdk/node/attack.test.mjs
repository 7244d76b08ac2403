// What badly behaved peers may not do to the others.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, test } from 'node:test';
import { Control } from '../lib/control.mjs';
import { UPGRADE, dial, dialUpgraded, frame } from '../lib/raw.mjs';
import { JSON_SDK, Peer } from '../lib/sdk.mjs';
import { Server } from '../lib/server.mjs';
import { channel, once, range, sleep, until } from '../lib/util.mjs';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const HEAD_TIMEOUT_S = 3;

let server;
before(async () => {
  server = await Server.start({
    http_server: { address: '127.0.0.1', head_timeout: `${HEAD_TIMEOUT_S}s` },
    websocket: { write_timeout: '60s' },
  });
});
after(() => server?.stop());

const members = async (name) => (await server.api('presence_stats', { channel: name })).num_clients;

test('kill -9 of clients in the middle of a frame', () =>
  Control.beside(server, async () => {
    const name = channel();
    for (let round = 0; round < 3; round += 1) {
      const child = spawn(process.execPath, [path.join(HERE, '../lib/victim.mjs'), String(server.port), name, '20'], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      await once(child.stdout, 'data');
      assert.equal(await members(name), 20);
      child.kill('SIGKILL');
      await once(child, 'exit');
      await until(async () => (await members(name)) === 0, 'the killed clients are gone');
    }
  }));

test('300 dripping handshakes are cut in time', () =>
  Control.beside(server, async () => {
    const begun = Date.now();
    const sockets = await Promise.all(range(1, 300).map(() => dial(server.port)));
    let at = 0;
    const drip = setInterval(() => {
      for (const socket of sockets) if (!socket.isGone) socket.write(UPGRADE[at % (UPGRADE.length - 4)]);
      at += 1;
    }, 300);
    try {
      sockets.forEach((socket) => socket.resume());
      const fresh = await new Peer(JSON_SDK, server.ws).connect();
      fresh.close();
      await until(() => sockets.every((s) => s.isGone), 'every dripping socket cut', HEAD_TIMEOUT_S * 1000 + 7_000);
    } finally {
      clearInterval(drip);
      sockets.forEach((socket) => socket.destroy());
    }
    assert.ok(Date.now() - begun >= (HEAD_TIMEOUT_S - 1) * 1000, 'they were given their time');
  }));

test('sockets that never say a word are cut as well', async () => {
  const sockets = await Promise.all(range(1, 50).map(() => dial(server.port)));
  sockets.forEach((socket) => socket.resume());
  await until(() => sockets.every((s) => s.isGone), 'every silent socket cut', HEAD_TIMEOUT_S * 1000 + 7_000);
});

test('slow readers are cut at the queue limit, fast ones lose nothing', () =>
  Control.beside(server, async () => {
    const name = channel('small');
    const slow = [];
    for (const id of range(1, 8)) {
      const commands = `{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"${name}"}}`;
      const socket = await dialUpgraded(server.port, commands, '"id":2');
      socket.pause();
      slow.push({ id, socket });
    }
    const fast = await new Peer(JSON_SDK, server.ws).connect();
    const room = await fast.join(name, { joinLeave: false });
    assert.equal(await members(name), 9);

    const padding = 'x'.repeat(100_000);
    let sent = 0;
    // The kernel's own buffers come before the server's queue, so the loop runs until the cut, within 100 MB each.
    while ((await members(name)) > 1) {
      assert.ok(sent < 1_000, 'slow readers still there after 100 MB each');
      for (let i = 0; i < 10; i += 1) await server.publish(name, { n: (sent += 1), padding });
      await until(() => room.data.length === sent, 'the fast reader has everything');
    }
    assert.deepEqual(room.data.map((d) => d.n), range(1, sent));
    assert.equal(fast.connecting.length, 1);
    assert.equal(room.subscribed.length, 1);

    // Whoever reads on finds the end of the connection; where a close frame fitted, it says 3008.
    for (const { socket } of slow) {
      let tail = Buffer.alloc(0);
      socket.on('data', (chunk) => (tail = Buffer.concat([tail, chunk]).subarray(-64)));
      socket.resume();
      await until(() => socket.isGone || tail.includes('slow'), 'end of a slow connection');
      const codeAt = tail.indexOf('slow');
      if (codeAt >= 2) assert.equal(tail.readUInt16BE(codeAt - 2), 3008);
      socket.destroy();
    }
    fast.close();
  }));

test('a reader that takes nothing for the write timeout is cut', async () => {
  const strict = await Server.start({
    websocket: { write_timeout: '1s' },
    client: { allowed_origins: ['*'], allow_anonymous_connect_without_token: true, queue_max_size: 512 * 1024 * 1024 },
  });
  try {
    await Control.beside(strict, async () => {
      const name = channel('small');
      const socket = await dialUpgraded(strict.port, `{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"${name}"}}`, '"id":2');
      socket.pause();
      const padding = 'x'.repeat(100_000);
      for (let i = 0; i < 150; i += 1) await strict.publish(name, padding);
      await until(async () => (await strict.api('presence_stats', { channel: name })).num_clients === 0, 'the blocked reader is cut');
      socket.destroy();
    });
  } finally {
    await strict.stop();
  }
});

test('broken WebSocket frames end only their own connection', () =>
  Control.beside(server, async () => {
    const connect = '{"id":1,"connect":{}}';
    for (const [what, bytes] of [
      ['a reserved opcode', frame('x', { opcode: 3 })],
      ['an unmasked frame', Buffer.from([0x81, 2, 0x7b, 0x7d])],
      ['a reserved bit', Buffer.from([0xc1, 0x80, 0, 0, 0, 0])],
      ['a fragmented control frame', frame('', { opcode: 9, fin: false })],
      ['a control frame of 126 bytes', frame('x'.repeat(126), { opcode: 9 })],
      ['a continuation of nothing', frame('x', { opcode: 0 })],
      ['text that is not UTF-8', frame(Buffer.from([0xff, 0xfe]))],
      ['a length of 2^63', Buffer.from([0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])],
      ['a length of 1 GiB', Buffer.from([0x81, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0])],
    ]) {
      const socket = await dialUpgraded(server.port, connect, '"id":1');
      socket.resume();
      socket.write(bytes);
      await until(() => socket.isGone, `${what} ends the connection`);
    }
  }));

test('a storm of connects and disconnects leaves nothing behind', () =>
  Control.beside(server, async () => {
    const before = (await server.api('info', {})).nodes[0].num_clients;
    for (let round = 0; round < 5; round += 1) {
      const sockets = await Promise.all(
        range(1, 60).map(() => dialUpgraded(server.port, '{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"chat:storm"}}', '"id":2')),
      );
      for (const socket of sockets) socket.resetAndDestroy();
      await sleep(0);
    }
    await until(async () => (await members('chat:storm')) === 0, 'nobody left in the channel');
    await until(async () => (await server.api('info', {})).nodes[0].num_clients === before, 'as many clients as before');
  }));
