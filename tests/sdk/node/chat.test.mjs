// The chat page in Chromium: two people, presence, joins and leaves, a cut and what was missed.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { behindProxy } from '../lib/behind.mjs';
import { Browser } from '../lib/browser.mjs';
import { Server } from '../lib/server.mjs';
import { range, until } from '../lib/util.mjs';

const browser = await Browser.start();
after(() => browser.stop());
const { server, proxy } = await behindProxy(Server.dev());

test('two pages chat, one goes offline and recovers', async () => {
  await server.publish('lobby', { name: 'backend', text: 'before anybody came' });
  const ann = await browser.open({ server: server.ws, room: 'lobby', name: 'Ann' });
  const bob = await browser.open({ server: proxy.ws, room: 'lobby', name: 'Bob' });
  await until(async () => (await ann.notes('join')).length === 1, 'Ann sees Bob join');
  await ann.say('Hello, is anybody here?');
  await bob.say('Yes! <b>Bob</b> & friends');
  const three = ['before anybody came', 'Hello, is anybody here?', 'Yes! <b>Bob</b> & friends'];
  for (const page of [ann, bob]) {
    assert.deepEqual((await page.heard(3, 'both messages and the old one')).map((m) => m.text), three);
  }
  await until(async () => (await ann.people()).length === 2, 'two people at Ann');
  assert.deepEqual((await ann.people()).sort(), ['Ann (you)', 'Bob']);
  assert.deepEqual((await bob.people()).sort(), ['Ann', 'Bob (you)']);

  proxy.cut();
  await bob.state('connecting');
  await until(async () => (await ann.notes('leave')).length === 1, 'Ann sees Bob leave');
  for (const n of range(1, 12)) await server.publish('lobby', { name: 'backend', text: `missed ${n}` });
  await ann.say('Bob?');
  await until(() => proxy.refused > 0, 'Bob tried to come back');
  await bob.screenshot('chat-offline');
  proxy.mend();
  await bob.state('connected');

  const all = [...three, ...range(1, 12).map((n) => `missed ${n}`), 'Bob?'];
  const his = await bob.heard(all.length, 'what Bob missed');
  assert.deepEqual(his.map((m) => m.text), all);
  assert.deepEqual(his.map((m) => m.offset), range(1, all.length));
  assert.deepEqual(await bob.notes('recovered'), ['back online, nothing missed']);
  assert.deepEqual(await bob.notes('not-recovered'), []);
  await bob.say('Here again');
  assert.deepEqual((await ann.heard(all.length + 1, 'Bob again')).map((m) => m.text), [...all, 'Here again']);
  await until(async () => (await ann.people()).length === 2, 'two people again');
  await bob.screenshot('chat');
  assert.deepEqual([...ann.errors, ...bob.errors], []);
});
