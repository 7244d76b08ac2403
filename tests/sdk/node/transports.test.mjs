// http_stream and sse under the real SDK: what works over WebSocket works here, on a node with two cores.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { behindProxy } from '../lib/behind.mjs';
import { Browser } from '../lib/browser.mjs';
import { Peer } from '../lib/sdk.mjs';
import { Server } from '../lib/server.mjs';
import { FALLBACKS } from '../lib/transports.mjs';
import { channel, once, range, until } from '../lib/util.mjs';

const { server, proxy } = await behindProxy(
  Server.start({
    http_stream: { enabled: true },
    sse: { enabled: true },
    client: { ping_interval: '1s', pong_timeout: '500ms', allow_anonymous_connect_without_token: true, allowed_origins: ['*'] },
    runtime: { cores: 2 },
  }),
);

const through = (it) => `http://127.0.0.1:${it.port}`;
/** How many commands the server got so far. */
const commands = async () => {
  const page = await (await fetch(`${server.http}/metrics`)).text();
  return [...page.matchAll(/^corecast_commands_received_total\S* (\d+)$/gm)].reduce((sum, [, count]) => sum + Number(count), 0);
};
const numbers = (room) => room.data.map((d) => d.n);

for (const sdk of FALLBACKS) {
  describe(sdk.name, () => {
    test('every command', async () => {
      const name = channel();
      const [one, two] = [await new Peer(sdk, server.http).connect(), await new Peer(sdk, server.http).connect()];
      const [room, other] = [await one.join(name), await two.join(name)];
      await until(() => room.joined.includes(two.id), 'the join');
      for (const n of range(1, 20)) await one.publish(name, { n, text: 'ü\r\n"data: x\n\n' });
      await until(() => room.data.length === 20 && other.data.length === 20, 'what was published');
      assert.deepEqual(numbers(other), range(1, 20));
      assert.equal(other.data[0].text, 'ü\r\n"data: x\n\n');
      assert.deepEqual(Object.keys((await room.sub.presence()).clients).sort(), [one.id, two.id].sort());
      assert.equal((await room.sub.presenceStats()).numClients, 2);
      assert.equal((await room.sub.history({ limit: 5 })).publications.length, 5);
      await assert.rejects(one.client.rpc('nope', sdk.pack({})), { code: 108 });
      other.sub.unsubscribe();
      await until(() => room.left.includes(two.id), 'the leave');
      one.close();
      two.close();
      await until(async () => (await server.api('presence_stats', { channel: name })).num_clients === 0, 'both are gone');
    });

    test('carriage returns between tokens do not break a message', async () => {
      const name = channel();
      const peer = await new Peer(sdk, server.http).connect();
      const room = await peer.join(name);
      await server.request('publish', `{"channel":"${name}","data":{"n":\r1,\r\n"m":2}}`);
      await until(() => room.data.length === 1, 'the publication');
      assert.deepEqual(room.data, [{ n: 1, m: 2 }]);
      peer.close();
    });

    test('answers pings by requests: the connection outlives several', async () => {
      const peer = await new Peer(sdk, server.http).connect();
      const before = await commands();
      await until(async () => (await commands()) >= before + 2, 'two pongs');
      assert.equal(peer.connecting.length, 1, JSON.stringify(peer.connecting));
      await assert.rejects(peer.client.rpc('nope', sdk.pack({})), { code: 108 });
      peer.close();
    });

    test('recovers exactly what was missed while TCP was cut', async () => {
      const name = channel();
      const peer = await new Peer(sdk, through(proxy)).connect();
      const room = await peer.join(name, { joinLeave: false });
      for (const n of range(1, 5)) await server.publish(name, { n });
      await until(() => room.data.length === 5, 'before the cut');
      proxy.cut();
      for (const n of range(6, 30)) await server.publish(name, { n });
      proxy.mend();
      await until(() => room.subscribed.length === 2 && room.data.length >= 30, 'everything');
      assert.equal(room.subscribed[1].recovered, true);
      assert.deepEqual(room.publications.map((p) => p.offset), range(1, 30));
      await peer.publish(name, { n: 31 });
      await until(() => room.data.length === 31, 'live again');
      assert.deepEqual(numbers(room), range(1, 31));
      peer.close();
    });

    test('is told why it is disconnected', async () => {
      const peer = await new Peer(sdk, server.http).connect();
      const gone = once(peer.client, 'disconnected');
      await server.api('disconnect', { user: '', client: peer.id, disconnect: { code: 4501, reason: 'bye' } });
      const { code, reason } = await gone;
      assert.deepEqual([code, reason], [4501, 'bye']);
    });

    test('a large message in each direction', async () => {
      const name = channel();
      const peer = await new Peer(sdk, server.http).connect();
      const room = await peer.join(name);
      const text = 'x'.repeat(40_000);
      await peer.publish(name, { n: 1, text });
      await server.publish(name, { n: 2, text: text.repeat(12) });
      await until(() => room.data.length === 2, 'both');
      assert.equal(room.data[1].text.length, 480_000);
      peer.close();
    });
  });
}

// A page of another origin, where WebSocket does not work: the SDK takes the next transport of its list.
describe('Chromium without WebSocket', () => {
  let plain;
  let browser;
  before(async () => {
    plain = await Server.start({ http_stream: { enabled: true }, sse: { enabled: true }, websocket: { disabled: true } });
    browser = await Browser.start();
  });
  after(async () => {
    await browser?.stop();
    await plain?.stop();
  });

  for (const transport of ['http_stream', 'sse']) {
    test(transport, async () => {
      const name = channel();
      const page = await browser.blank();
      const client = await page.evaluate(
        ({ http, transport, name }) =>
          new Promise((resolve, reject) => {
            const endpoints = [
              { transport: 'websocket', endpoint: `${http.replace('http', 'ws')}/connection/websocket` },
              { transport, endpoint: `${http}/connection/${transport}` },
            ];
            const client = new Centrifuge(endpoints, { emulationEndpoint: `${http}/emulation` });
            const sub = client.newSubscription(name);
            window.heard = [];
            sub.on('publication', (ctx) => window.heard.push(ctx.data));
            sub.on('subscribed', () => resolve(window.used));
            client.on('connected', (ctx) => (window.used = ctx.transport));
            client.on('disconnected', (ctx) => reject(new Error(ctx.reason)));
            window.say = (data) => sub.publish(data);
            sub.subscribe();
            client.connect();
          }),
        { http: plain.http, transport, name },
      );
      assert.equal(client, transport);
      await page.evaluate(() => window.say({ from: 'page' }));
      await plain.publish(name, { from: 'api' });
      await page.waitForFunction(() => window.heard.length === 2);
      assert.deepEqual(await page.evaluate(() => window.heard), [{ from: 'page' }, { from: 'api' }]);
    });
  }
});
