// Clients that only listen, with what Node and a browser have: WebSocket, EventSource, fetch. No SDK is needed.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { EventSource } from 'eventsource';
import WebSocket from 'ws';
import { Browser } from '../lib/browser.mjs';
import { Server } from '../lib/server.mjs';
import { SECRET, token } from '../lib/token.mjs';
import { channel, until } from '../lib/util.mjs';

let server;
let browser;
before(async () => {
  server = await Server.start({
    uni_websocket: { enabled: true },
    uni_sse: { enabled: true },
    uni_http_stream: { enabled: true },
    client: { allowed_origins: ['*'], token: { hmac_secret_key: SECRET } },
  });
  browser = await Browser.start();
});
after(async () => {
  await browser?.stop();
  await server?.stop();
});

/** Each calls `heard` with every push; this very text runs in a browser as well. */
const LISTENERS = {
  uni_websocket: (base, connect, heard) => {
    const socket = new WebSocket(`${base.replace('http', 'ws')}/connection/uni_websocket`);
    socket.onopen = () => socket.send(JSON.stringify(connect));
    socket.onmessage = ({ data }) => heard(JSON.parse(data));
  },
  uni_sse: (base, connect, heard) => {
    const query = encodeURIComponent(JSON.stringify(connect));
    const source = new EventSource(`${base}/connection/uni_sse?cf_connect=${query}`);
    source.onmessage = ({ data }) => heard(JSON.parse(data));
    source.onerror = () => source.close();
  },
  uni_http_stream: async (base, connect, heard) => {
    const headers = { 'Content-Type': 'application/json' };
    const body = JSON.stringify(connect);
    const response = await fetch(`${base}/connection/uni_http_stream`, { method: 'POST', headers, body });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += value;
      const lines = text.split('\n');
      text = lines.pop();
      for (const line of lines) heard(JSON.parse(line));
    }
  },
};

/** What a listener of the channel must be told, whoever it is. */
async function check(name, user, pushes) {
  const connect = await until(async () => (await pushes())[0]?.connect, 'the connect');
  assert.deepEqual(Object.keys(connect.subs), [name]);
  assert.ok(connect.session);
  await server.publish(name, { text: 'ü\r\n\n' });
  await until(async () => (await pushes()).some((push) => push.pub), 'the publication');
  const { channel: where, pub } = (await pushes()).find((push) => push.pub);
  assert.deepEqual([where, pub.data], [name, { text: 'ü\r\n\n' }]);
  await server.api('disconnect', { user, disconnect: { code: 4501, reason: 'bye' } });
  const end = await until(async () => (await pushes()).find((push) => push.disconnect), 'the end');
  assert.deepEqual(end.disconnect, { code: 4501, reason: 'bye' });
}

const tokenOf = (user, name) => token({ sub: user, channels: [name] });

for (const [kind, listen] of Object.entries(LISTENERS)) {
  describe(kind, () => {
    test('Node', async () => {
      const name = channel();
      const heard = [];
      listen(server.http, { token: tokenOf(kind, name) }, (push) => heard.push(push));
      await check(name, kind, async () => heard);
    });

    test('Chromium, on a page of another origin', async () => {
      const name = channel();
      const page = await browser.blank();
      const user = `page-${kind}`;
      await page.evaluate(
        ([listen, base, token]) => {
          window.heard = [];
          eval(listen)(base, { token }, (push) => window.heard.push(push));
        },
        [`(${listen})`, server.http, tokenOf(user, name)],
      );
      await check(name, user, () => page.evaluate(() => window.heard));
    });
  });
}
