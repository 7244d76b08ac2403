// Fields of the server API one by one, as clients see what they do; and errors as HTTP statuses.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { dial } from '../lib/raw.mjs';
import { JSON_SDK, PROTOBUF_SDK, Peer, SDKS } from '../lib/sdk.mjs';
import { API_KEY, Server, open } from '../lib/server.mjs';
import { SECRET, token } from '../lib/token.mjs';
import { channel, range, until } from '../lib/util.mjs';

const client = { allow_anonymous_connect_without_token: true, token: { hmac_secret_key: SECRET }, expired_sub_close_delay: '0s' };
const board = { subscription_type: 'map', map: { mode: 'persistent', keys_max: 1 } };
const namespaces = [
  { name: 'chat', ...open },
  { name: 'plain', allow_subscribe_for_client: true, allow_subscribe_for_anonymous: true },
  { name: 'quiet', ...open, force_recovery: false, allow_recovery: true },
  { name: 'board', ...board },
];

let server;
before(async () => (server = await Server.start({ client, runtime: { cores: 2 }, channel: { namespaces } })));
after(() => server?.stop());

let last = 0;
const unique = () => `${process.pid}-${(last += 1)}`;
const base64 = (bytes) => Buffer.from(bytes).toString('base64');
const errorOf = async (method, body) => (await (await server.request(method, body)).json()).error?.code ?? 0;

/** A client of this user, with what its server-side subscriptions tell it. */
async function listener(sdk, sub) {
  const peer = new Peer(sdk, server.ws, { token: token({ sub }) });
  const it = { peer, subscribed: [], heard: [], unsubscribed: [] };
  peer.client.on('subscribed', (ctx) => it.subscribed.push(ctx));
  peer.client.on('publication', (ctx) => it.heard.push(sdk.unpack(ctx.data)));
  peer.client.on('unsubscribed', (ctx) => it.unsubscribed.push(ctx.channel));
  await peer.connect();
  return it;
}

for (const sdk of SDKS) {
  describe(sdk.name, () => {
    const peers = [];
    after(() => peers.forEach((it) => it.close()));
    const peer = async () => {
      peers.push(await new Peer(sdk, server.ws).connect());
      return peers.at(-1);
    };
    const listen = async (sub) => {
      const it = await listener(sdk, sub);
      peers.push(it.peer);
      return it;
    };

    test('a version that is not above the last is not published', async () => {
      const name = channel();
      const room = await (await peer()).join(name);
      const publish = async (data, version, version_epoch) =>
        (await server.api('publish', { channel: name, data, version, version_epoch })).offset;
      const rows = [
        // Version, its epoch, the offset that is answered.
        [5, '', 1],
        [5, '', 1],
        [4, '', 1],
        [6, '', 2],
        [undefined, '', 3],
        [6, '', 3],
        [1, 'b', 4],
        [1, 'b', 4],
        [2, 'b', 5],
        [2, '', 5],
        [3, '', 6],
      ];
      const want = [];
      for (const [at, [version, epoch, offset]] of rows.entries()) {
        if (offset > want.length) want.push(at);
        assert.equal(await publish(at, version, epoch), offset, `row ${at}`);
      }
      await until(() => room.data.length === want.length, 'what was new');
      assert.deepEqual(room.data, want);
      const { responses } = await server.api('broadcast', { channels: [name, channel()], data: 'all', version: 3 });
      assert.deepEqual(responses.map((it) => it.result.offset), [6, 1], 'versions are of channels');
    });

    test('b64data is whatever its bytes are', async () => {
      const name = channel();
      const room = await (await peer()).join(name);
      const text = '{"text":"ü"}';
      await server.api('publish', { channel: name, b64data: base64(text) });
      await server.api('publish', { channel: name, data: { loses: true }, b64data: base64('[1]') });
      await until(() => room.data.length === 2, 'both');
      assert.deepEqual(room.data, [{ text: 'ü' }, [1]]);
      assert.equal(await errorOf('publish', { channel: name, b64data: 'AAA' }), 107);
      const { publications } = await server.api('history', { channel: name, limit: -1 });
      assert.deepEqual(publications.map((it) => it.data), room.data);
    });

    test('subscribe with info, data and a place to recover from', async () => {
      const name = channel();
      const sub = unique();
      const it = await listen(sub);
      for (const n of range(1, 4)) await server.publish(name, { n });
      const { epoch } = await server.api('history', { channel: name, limit: 0 });
      const body = { user: sub, channel: name, info: { role: 'x' }, data: { hello: 1 }, recover_since: { offset: 2, epoch } };
      assert.deepEqual(await server.api('subscribe', body), {});
      await until(() => it.heard.length === 2, 'what it missed');
      await server.publish(name, { n: 5 });
      await until(() => it.heard.length === 3, 'what is new');
      assert.deepEqual(it.heard.map(({ n }) => n), [3, 4, 5]);
      const [told] = it.subscribed;
      assert.deepEqual([told.channel, sdk.unpack(told.data), told.recoverable], [name, { hello: 1 }, true]);
      const { presence } = await server.api('presence', { channel: name });
      assert.deepEqual(presence[it.peer.id].chan_info, { role: 'x' });
    });

    test('recover_since makes recoverable where it is allowed; another epoch brings nothing', async () => {
      const name = channel('quiet');
      const [first, second, plain] = [unique(), unique(), unique()];
      const [one, two, three] = [await listen(first), await listen(second), await listen(plain)];
      for (const n of range(1, 3)) await server.publish(name, { n });
      const { epoch } = await server.api('history', { channel: name, limit: 0 });
      await server.api('subscribe', { user: first, channel: name, recover_since: { offset: 1, epoch } });
      await server.api('subscribe', { user: second, channel: name, recover_since: { offset: 1, epoch: 'other' } });
      await server.api('subscribe', { user: plain, channel: name });
      await until(() => one.heard.length === 2 && two.subscribed.length === 1 && three.subscribed.length === 1, 'all');
      await server.publish(name, { n: 4 });
      await until(() => [one, two, three].every((it) => it.heard.at(-1)?.n === 4), 'what is new');
      assert.deepEqual([one, two, three].map((it) => it.heard.map(({ n }) => n)), [[2, 3, 4], [4], [4]]);
      assert.deepEqual([one, two, three].map((it) => it.subscribed[0].recoverable), [true, true, false]);
    });

    test('subscribe by client, in base64, for a time, otherwise than the namespace says', async () => {
      const name = channel();
      const sub = unique();
      const [it, other] = [await listen(sub), await listen(sub)];
      const expire_at = Math.floor(Date.now() / 1000) + 2;
      const override = { presence: { value: false }, force_recovery: { value: false } };
      const body = { user: sub, client: it.peer.id, channel: name, b64data: base64('{"hello":2}'), override, expire_at };
      await server.api('subscribe', body);
      await until(() => it.subscribed.length === 1, 'subscribed');
      assert.deepEqual([sdk.unpack(it.subscribed[0].data), it.subscribed[0].recoverable], [{ hello: 2 }, false]);
      assert.deepEqual((await server.api('presence', { channel: name })).presence, {});
      await until(() => it.peer.connecting.length === 2, 'its time is up');
      assert.equal(it.peer.connecting[1].code, 3006);
      assert.deepEqual([other.subscribed.length, other.peer.connecting.length], [0, 1]);
      assert.equal(await errorOf('subscribe', { ...body, expire_at: 1 }), 110);
    });

    test('unsubscribe from everything at once, of one client', async () => {
      const sub = unique();
      const [it, other] = [await listen(sub), await listen(sub)];
      const names = range(1, 3).map(() => channel());
      for (const name of names) await server.api('subscribe', { user: sub, channel: name });
      await until(() => it.subscribed.length === 3 && other.subscribed.length === 3, 'subscribed');
      await server.api('unsubscribe', { user: sub, client: it.peer.id, channel: names[0] });
      await until(() => it.unsubscribed.length === 1, 'one');
      await server.api('unsubscribe', { user: sub, client: it.peer.id, channel: '' });
      await until(() => it.unsubscribed.length === 3, 'all');
      assert.deepEqual([...it.unsubscribed].sort(), [...names].sort());
      assert.deepEqual(other.unsubscribed, []);
    });
  });
}

test('bytes that are no JSON: to those who can have them, and in base64 to callers', async () => {
  const name = channel();
  const [json, protobuf] = [await new Peer(JSON_SDK, server.ws).connect(), await new Peer(PROTOBUF_SDK, server.ws).connect()];
  const heard = [];
  const sub = protobuf.client.newSubscription(name);
  sub.on('publication', (ctx) => heard.push([...ctx.data]));
  sub.subscribe();
  const room = await json.join(name);
  await sub.ready();
  await server.api('publish', { channel: name, b64data: base64([255, 0, 10]) });
  await server.publish(name, 1);
  await until(() => room.data.length === 1 && heard.length === 2, 'both');
  assert.deepEqual([heard[0], room.data], [[255, 0, 10], [1]]);
  const { publications } = await server.api('history', { channel: name, limit: 1 });
  assert.deepEqual(publications, [{ b64data: base64([255, 0, 10]), offset: 1 }]);
  json.close();
  protobuf.close();
});

describe('errors as HTTP statuses', () => {
  const headers = { 'X-API-Key': API_KEY, 'X-Centrifugo-Error-Mode': 'transport' };
  for (const [method, body, status, code] of [
    ['publish', { channel: 'chat:x', data: 1 }, 200],
    ['publish', { channel: 'nowhere:x', data: 1 }, 404, 102],
    ['publish', { channel: '', data: 1 }, 400, 107],
    ['presence', { channel: 'plain:x' }, 400, 108],
    ['history', { channel: 'chat:x', limit: 1, since: { offset: 1, epoch: 'other' } }, 416, 112],
    ['map_publish', { channel: 'board:x', key: 'one too many', data: 1 }, 400, 106],
    ['batch', { commands: [{ publish: { channel: 'nowhere:x', data: 1 } }] }, 200],
  ]) {
    test(`${method} ${JSON.stringify(body)}: ${status}`, async () => {
      if (method === 'map_publish') await server.api(method, { ...body, key: 'the one' });
      const response = await server.request(method, body, headers);
      assert.equal(response.status, status);
      const answer = await response.json();
      if (code) assert.deepEqual([Object.keys(answer), answer.code], [['code', 'message'], code]);
      else assert.ok(answer.result ?? answer.replies);
    });
  }

  test('more at once than another core takes: 429, and not for long', async () => {
    const narrow = await Server.start({ runtime: { cores: 2 }, mesh: { credit: 1 } });
    try {
      const socket = await dial(narrow.port);
      let text = '';
      socket.on('data', (chunk) => (text += chunk));
      const request = (name) => {
        const body = JSON.stringify({ channel: name, data: 1 });
        const fields = Object.entries({ Host: 'x', ...headers, 'Content-Length': body.length }).map((field) => field.join(': '));
        return ['POST /api/publish HTTP/1.1', ...fields, '', body].join('\r\n');
      };
      socket.write(range(1, 40).map(() => request(channel())).join(''));
      const statuses = () => [...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status);
      await until(() => statuses().length === 40, 'all answers');
      assert.deepEqual([...new Set(statuses())].sort(), ['200', '429']);
      assert.match(text, /\{"code":111,"message":"too many requests"\}/);
      socket.destroy();
      for (let n = 0; n < 10; n += 1) await narrow.publish(channel(), n);
    } finally {
      await narrow.stop();
    }
  });
});
