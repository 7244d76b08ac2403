// Shared polls with the unmodified SDK and a backend in this process: what changes reaches who tracks it.

import assert from 'node:assert/strict';
import { createHash, createHmac } from 'node:crypto';
import { createServer } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { Proxy } from '../lib/proxy.mjs';
import { Peer, SDKS } from '../lib/sdk.mjs';
import { Server } from '../lib/server.mjs';
import { token } from '../lib/token.mjs';
import { channel, range, sleep, until } from '../lib/util.mjs';

const SECRET = 'poll-tests-secret';
const TOKENS = 'poll-tests-tokens';

/** As a backend signs the keys a user may track; `ttl` in seconds, 0 for ever. */
function sign(user, channel, keys, ttl, secret = SECRET) {
  const iat = Math.floor(Date.now() / 1000);
  const exp = ttl === 0 ? 0 : iat + ttl;
  const hash = createHash('sha256').update(keys.join('\0')).digest('hex');
  const mac = createHmac('sha256', secret).update([iat, exp, user, channel, hash].join('\0')).digest('hex');
  return `${iat}:${exp}:${mac}`;
}

/** Knows items by channel and key, and what it was asked. */
class Backend {
  static async start() {
    const backend = new Backend();
    Object.assign(backend, { channels: new Map(), asked: [], down: false, epoch: '' });
    backend.server = createServer((request, response) => backend.answer(request, response));
    await new Promise((resolve) => backend.server.listen(0, '127.0.0.1', resolve));
    return backend;
  }

  get url() {
    return `http://127.0.0.1:${this.server.address().port}/refresh`;
  }

  set(channel, key, data, version) {
    if (!this.channels.has(channel)) this.channels.set(channel, new Map());
    this.channels.get(channel).set(key, { data, version });
  }

  remove(channel, key) {
    this.channels.get(channel).set(key, { removed: true });
  }

  async answer(request, response) {
    let body = '';
    for await (const chunk of request) body += chunk;
    const { channel, items } = JSON.parse(body);
    this.asked.push({ channel, items, headers: request.headers, method: request.method, at: Date.now() });
    if (this.down) {
      response.statusCode = 503;
      return response.end();
    }
    const known = this.channels.get(channel) ?? new Map();
    const answered = items.filter(({ key }) => known.has(key)).map(({ key }) => ({ key, ...known.get(key) }));
    response.setHeader('Content-Type', 'application/json');
    response.end(JSON.stringify({ result: { items: answered, epoch: this.epoch } }));
  }

  /** Requests about a channel. */
  of(channel) {
    return this.asked.filter((it) => it.channel === channel);
  }
}

const poll = (name, options) => ({
  name,
  subscription_type: 'shared_poll',
  allow_subscribe_for_client: true,
  allow_subscribe_for_anonymous: true,
  shared_poll: { refresh_interval: '50ms', channel_shutdown_delay: '30s', ...options },
});

let backend;
let server;
let proxy;
before(async () => {
  backend = await Backend.start();
  server = await Server.start({
    client: { allow_anonymous_connect_without_token: true, token: { hmac_secret_key: TOKENS } },
    runtime: { cores: 2 },
    shared_poll: { hmac_secret_key: SECRET },
    channel: {
      proxy: {
        shared_poll_refresh: { endpoint: backend.url, timeout: '2s', http: { static_headers: { 'X-Key': 'k' } } },
      },
      namespaces: [
        poll('plain', { refresh_batch_size: 10 }),
        poll('versioned', { mode: 'versioned' }),
        poll('slow', { mode: 'versioned', refresh_interval: '300s' }),
        poll('few', { max_keys_per_connection: 2, track_expired_extra_delay: '1ms' }),
      ],
    },
  });
  proxy = await Proxy.start(server.port);
});
after(async () => {
  await proxy?.stop();
  await server?.stop();
  backend?.server.closeAllConnections();
  backend?.server.close();
});

/** What one client hears of the keys it tracks in a channel. */
function watch(peer, name, { user = '', ttl = 3600, signed = (keys) => keys, secret = SECRET } = {}) {
  const it = { data: {}, versions: {}, heard: [], errors: [], subscribed: [], subscribing: [], signatures: 0 };
  it.sub = peer.client.newSharedPollSubscription(name, {
    minResubscribeDelay: 20,
    maxResubscribeDelay: 100,
    getSignature: async ({ keys }) => {
      it.signatures += 1;
      const allowed = signed(keys);
      return { keys: allowed, signature: sign(user, name, allowed, ttl, secret) };
    },
  });
  it.sub.on('update', (ctx) => {
    it.heard.push(ctx);
    if (ctx.removed) delete it.data[ctx.key];
    else [it.data[ctx.key], it.versions[ctx.key]] = [peer.sdk.unpack(ctx.data), ctx.version];
  });
  it.sub.on('error', (ctx) => it.errors.push(ctx));
  it.sub.on('subscribed', (ctx) => it.subscribed.push(ctx));
  it.sub.on('subscribing', (ctx) => it.subscribing.push(ctx));
  it.sub.subscribe();
  return it;
}

const has = (it, want) => JSON.stringify(Object.entries(it.data).sort()) === JSON.stringify(Object.entries(want).sort());

for (const sdk of SDKS) {
  const connect = (url = server.ws, options = {}) => new Peer(sdk, url, options).connect();

  describe(sdk.name, () => {
    for (const namespace of ['plain', 'versioned']) {
      test(`${namespace}: everybody hears of what they track, and of nothing else`, async () => {
        const name = channel(namespace);
        range(1, 30).forEach((n) => backend.set(name, `k${n}`, { n }, 1));
        // Several connections land on both cores.
        const peers = await Promise.all(range(1, 6).map(() => connect()));
        const watchers = peers.map((peer) => watch(peer, name));
        watchers.forEach((it, at) => it.sub.track(at % 2 ? ['k1', 'k2'] : range(2, 30).map((n) => `k${n}`)));
        const odd = { k1: { n: 1 }, k2: { n: 2 } };
        const even = Object.fromEntries(range(2, 30).map((n) => [`k${n}`, { n }]));
        await until(() => watchers.every((it, at) => has(it, at % 2 ? odd : even)), 'the first data');
        backend.set(name, 'k1', { n: 'one' }, 2);
        backend.set(name, 'k30', { n: 'thirty' }, 2);
        [odd.k1, even.k30] = [{ n: 'one' }, { n: 'thirty' }];
        await until(() => watchers.every((it, at) => has(it, at % 2 ? odd : even)), 'the changes');
        // Each was told of each version once.
        watchers.forEach((it, at) => assert.equal(it.heard.length, at % 2 ? 3 : 30));
        assert.deepEqual(watchers.flatMap((it) => it.errors), []);
        const asked = backend.of(name);
        assert.ok(asked.every((it) => it.method === 'POST' && it.headers['x-key'] === 'k'));
        assert.ok(asked.every((it) => it.headers['content-type'] === 'application/json'));
        assert.equal(asked.some((it) => it.items.some((item) => item.version !== undefined)), namespace === 'versioned');
        if (namespace === 'plain') assert.ok(asked.every((it) => it.items.length <= 10), 'batches');
        peers.forEach((peer) => peer.close());
        await until(async () => {
          const before = backend.of(name).length;
          await sleep(120);
          return backend.of(name).length === before;
        }, 'nobody is polled for');
      });
    }

    test('a key is polled as long as somebody tracks it', async () => {
      const name = channel('plain');
      ['a', 'b'].forEach((key) => backend.set(name, key, key));
      const [one, other] = await Promise.all([connect(), connect()]);
      const [mine, theirs] = [watch(one, name), watch(other, name)];
      mine.sub.track(['a', 'b']);
      theirs.sub.track(['b']);
      await until(() => has(mine, { a: 'a', b: 'b' }) && has(theirs, { b: 'b' }), 'the data');
      mine.sub.untrack(['a', 'b']);
      await until(() => backend.of(name).at(-1).items.every(({ key }) => key === 'b'), 'only b is polled');
      backend.set(name, 'b', 'B');
      await until(() => has(theirs, { b: 'B' }), 'the change');
      assert.equal(mine.data.b, 'b', 'who does not track a key is not told');
      assert.equal(mine.heard.length, 2);
      mine.sub.track(['b']);
      await until(() => mine.data.b === 'B', 'what others have been told already');
      one.close();
      other.close();
    });

    test('a key the backend removes is removed, and comes back when it is tracked again', async () => {
      const name = channel('versioned');
      ['a', 'b'].forEach((key) => backend.set(name, key, key, 5));
      const peer = await connect();
      const it = watch(peer, name);
      it.sub.track(['a', 'b']);
      await until(() => has(it, { a: 'a', b: 'b' }), 'the data');
      backend.remove(name, 'a');
      await until(() => has(it, { b: 'b' }), 'the removal');
      await until(() => backend.of(name).at(-1).items.every(({ key }) => key === 'b'), 'only b is polled');
      backend.set(name, 'a', 'again', 6);
      it.sub.track(['a']);
      await until(() => has(it, { a: 'again', b: 'b' }), 'its new life');
      peer.close();
    });

    test('while the backend is down nothing is said, and then what has changed', async () => {
      const name = channel('versioned');
      backend.set(name, 'a', 1, 1);
      const peer = await connect();
      const it = watch(peer, name);
      it.sub.track(['a', 'b']);
      await until(() => has(it, { a: 1 }), 'the data');
      try {
        backend.down = true;
        const before = backend.of(name).length;
        backend.set(name, 'a', 2, 2);
        backend.set(name, 'b', 3, 1);
        await until(() => backend.of(name).length >= before + 3, 'three failures');
        const [first, , third] = backend.of(name).slice(before);
        assert.ok(third.at - first.at >= 120, 'it is left alone for longer each time');
        assert.ok(has(it, { a: 1 }));
      } finally {
        backend.down = false;
      }
      await until(() => has(it, { a: 2, b: 3 }), 'what has changed');
      assert.deepEqual([it.errors, it.subscribed.length], [[], 1]);
      const metrics = await (await fetch(`${server.http}/metrics`)).text();
      const failed = [...metrics.matchAll(/corecast_backend_errors_total\{.*\} (\d+)/g)].map((it) => Number(it[1]));
      assert.ok(failed.reduce((sum, it) => sum + it) >= 3);
      peer.close();
    });

    test('who comes back gets what has changed meanwhile, and nothing twice', async () => {
      const name = channel('versioned');
      range(1, 5).forEach((n) => backend.set(name, `k${n}`, n, 1));
      const peer = await connect(proxy.ws);
      const it = watch(peer, name);
      it.sub.track(range(1, 5).map((n) => `k${n}`));
      await until(() => it.heard.length === 5, 'the data');
      proxy.cut();
      await until(() => it.subscribing.length === 2, 'the cut is noticed');
      backend.set(name, 'k3', 'three', 2);
      proxy.mend();
      await until(() => it.data.k3 === 'three', 'the change');
      await sleep(150);
      assert.deepEqual(it.heard.slice(5).map(({ key }) => key), ['k3']);
      assert.equal(it.signatures, 1, 'the signature still holds');
      peer.close();
    });

    test('only what is signed may be tracked, by whom and for as long as it is signed', async () => {
      const name = channel('few');
      ['a', 'b', 'c'].forEach((key) => backend.set(name, key, key));
      const anonymous = await connect();
      const wrong = watch(anonymous, name, { secret: 'guess' });
      wrong.sub.track(['a']);
      await until(() => wrong.errors.length > 0, 'the refusal');
      assert.deepEqual([wrong.errors[0].type, wrong.errors[0].error.code], ['track', 103]);
      const user = await connect(server.ws, { token: token({ sub: '42' }, { secret: TOKENS }) });
      const theirs = watch(user, name, { user: '43' });
      theirs.sub.track(['a']);
      await until(() => theirs.errors.length > 0, 'the refusal of what another user may');
      assert.equal(theirs.errors[0].error.code, 103);
      const own = watch(user, `${name}x`, { user: '42' });
      backend.set(`${name}x`, 'a', 1);
      own.sub.track(['a']);
      await until(() => has(own, { a: 1 }), 'what the user may');
      const many = watch(anonymous, `${name}y`);
      many.sub.track(['a', 'b', 'c']);
      await until(() => many.errors.length > 0, 'the limit');
      assert.equal(many.errors[0].error.code, 106);
      anonymous.close();
      user.close();
    });

    test('a signature is renewed in time, also one that has had its time, and then counts as long as it says', async () => {
      const name = channel('few');
      ['a', 'b'].forEach((key) => backend.set(name, key, key));
      const peer = await connect();
      const it = watch(peer, name, { ttl: 2 });
      it.sub.track(['a', 'b']);
      await until(() => it.signatures >= 3, 'two renewals');
      assert.ok(has(it, { a: 'a', b: 'b' }));
      // Long expired: the SDK is answered 109 and asks for a new one.
      const late = watch(peer, `${name}x`);
      backend.set(`${name}x`, 'a', 1);
      await until(() => late.subscribed.length === 1, 'subscribed');
      late.sub.track([{ key: 'a', version: 0 }], sign('', `${name}x`, ['a'], -60));
      await until(() => has(late, { a: 1 }), 'the data under a new signature');
      assert.equal(late.signatures, 1);
      // A key that is not signed again is not told of any more.
      const revoked = watch(peer, `${name}y`, { ttl: 1, signed: (keys) => (revoked.signatures > 1 ? [] : keys) });
      backend.set(`${name}y`, 'a', 1);
      revoked.sub.track(['a']);
      await until(() => has(revoked, {}) && revoked.heard.length === 2, 'the revocation');
      await until(async () => {
        const before = backend.of(`${name}y`).length;
        await sleep(150);
        return backend.of(`${name}y`).length === before;
      }, 'nobody polls for it');
      peer.close();
    });

    test('what is published arrives at once', async () => {
      const name = channel('slow');
      backend.set(name, 'a', { n: 1 }, 1);
      const peers = await Promise.all(range(1, 4).map(() => connect()));
      const watchers = peers.map((peer) => watch(peer, name));
      watchers.forEach((it) => it.sub.track(['a']));
      await until(() => watchers.every((it) => has(it, { a: { n: 1 } })), 'the data, though the interval is long');
      const publish = (more) => server.api('shared_poll_publish', { channel: name, key: 'a', ...more });
      await publish({ data: { n: 3 }, version: 3 });
      await until(() => watchers.every((it) => has(it, { a: { n: 3 } })), 'the publication');
      await publish({ data: { n: 2 }, version: 2 });
      await publish({ data: { n: 4 }, version: 4 });
      await until(() => watchers.every((it) => has(it, { a: { n: 4 } })), 'the next');
      watchers.forEach((it) => assert.deepEqual(it.heard.map(({ version }) => version), [1, 3, 4]));
      const status = async (method, body) => (await (await server.request(method, body)).json()).error?.code;
      assert.equal(await status('shared_poll_publish', { channel: name, key: 'a', data: 1 }), 107);
      assert.equal(await status('shared_poll_publish', { channel: name, data: 1, version: 5 }), 107);
      assert.equal(await status('shared_poll_publish', { channel: 'plain:x', key: 'a', data: 1, version: 5 }), 108);
      assert.equal(await status('shared_poll_publish', { channel: 'x', key: 'a', data: 1, version: 5 }), 108);
      assert.equal(await status('publish', { channel: name, data: 1 }), 108);
      peers.forEach((peer) => peer.close());
    });

    test('versions start over with another epoch', async () => {
      const name = channel('versioned');
      try {
        backend.epoch = 'first';
        backend.set(name, 'a', 'old', 50);
        const peers = await Promise.all(range(1, 4).map(() => connect()));
        const watchers = peers.map((peer) => watch(peer, name));
        watchers.forEach((it) => it.sub.track(['a']));
        await until(() => watchers.every((it) => has(it, { a: 'old' })), 'the data');
        backend.set(name, 'a', 'new', 1);
        backend.epoch = 'second';
        await until(() => watchers.every((it) => has(it, { a: 'new' })), 'what the new backend says');
        watchers.forEach((it) => assert.deepEqual(it.subscribing.map(({ code }) => code), [0, 2500]));
        backend.set(name, 'a', 'newer', 2);
        await until(() => watchers.every((it) => has(it, { a: 'newer' })), 'what changes then');
        peers.forEach((peer) => peer.close());
      } finally {
        backend.epoch = '';
      }
    });
  });
}
