// One room: JavaScript in JSON and in Protobuf, Python in both, and a page in Chromium. TCP is cut under each of them while
// messages are published; each recovers exactly what it missed, in order.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import path from 'node:path';
import readline from 'node:readline';
import { fileURLToPath } from 'node:url';
import { after, before, test } from 'node:test';
import { Browser } from '../lib/browser.mjs';
import { Proxy } from '../lib/proxy.mjs';
import { JSON_SDK, PROTOBUF_SDK, Peer } from '../lib/sdk.mjs';
import { Server } from '../lib/server.mjs';
import { once, range, until } from '../lib/util.mjs';

const PYTHON = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../python');
const ROOM = 'chat:mixed';

/** Every member: `say`, `texts`, `offsets`, `recovered` (how often), `close`. */
class NodeMember {
  static async join(sdk, proxy) {
    const member = new NodeMember();
    member.peer = await new Peer(sdk, proxy.ws).connect();
    member.room = await member.peer.join(ROOM, { joinLeave: false });
    return Object.assign(member, { name: `node ${sdk.name}`, proxy });
  }
  say = (text) => this.peer.publish(ROOM, { name: this.name, text });
  texts = () => this.room.data.map((d) => d.text);
  offsets = () => this.room.publications.map((p) => p.offset);
  recovered = () => this.room.subscribed.slice(1).map((ctx) => ctx.recovered);
  close = () => this.peer.close();
}

class PythonMember {
  static async join(encoding, proxy) {
    const member = Object.assign(new PythonMember(), { name: `python ${encoding}`, proxy, events: [] });
    const python = process.env.SDK_PYTHON ?? path.join(PYTHON, '.venv/bin/python');
    member.child = spawn(python, [path.join(PYTHON, 'chatter.py'), proxy.ws, ROOM, encoding], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    member.exited = once(member.child, 'exit', 3_600_000);
    readline.createInterface({ input: member.child.stdout }).on('line', (line) => member.events.push(JSON.parse(line)));
    await until(() => member.of('subscribed').length === 1, `${member.name} subscribed`);
    return member;
  }
  of = (kind) => this.events.filter((e) => e.event === kind);
  say = async (text) => this.child.stdin.write(`${JSON.stringify({ name: this.name, text })}\n`);
  texts = () => this.of('publication').map((e) => e.data.text);
  offsets = () => this.of('publication').map((e) => e.offset);
  recovered = () => this.of('subscribed').slice(1).map((e) => e.recovered);
  close = async () => {
    this.child.stdin.end();
    await until(() => this.child.exitCode !== null || this.child.signalCode, 'the Python client ends').catch(() => this.child.kill('SIGKILL'));
  };
}

class PageMember {
  static async join(browser, proxy) {
    const chat = await browser.open({ server: proxy.ws, room: ROOM, name: 'chromium' });
    return Object.assign(new PageMember(), { name: 'chromium', proxy, chat });
  }
  say = (text) => this.chat.say(text);
  texts = async () => (await this.chat.messages()).map((m) => m.text);
  offsets = async () => (await this.chat.messages()).map((m) => m.offset);
  recovered = async () => [
    ...(await this.chat.notes('recovered')).map(() => true),
    ...(await this.chat.notes('not-recovered')).map(() => false),
  ];
  close = async () => assert.deepEqual(this.chat.errors, []);
}

let server;
let browser;
const proxies = [];
const members = [];
before(async () => {
  server = await Server.start();
  browser = await Browser.start();
  for (let i = 0; i < 5; i += 1) proxies.push(await Proxy.start(server.port));
});
after(async () => {
  for (const member of members) await member.close();
  await browser?.stop();
  for (const proxy of proxies) await proxy.stop();
  await server?.stop();
});

test('everybody hears everybody, and what was missed comes back', async () => {
  members.push(await NodeMember.join(JSON_SDK, proxies[0]));
  members.push(await NodeMember.join(PROTOBUF_SDK, proxies[1]));
  members.push(await PythonMember.join('json', proxies[2]));
  members.push(await PythonMember.join('protobuf', proxies[3]));
  members.push(await PageMember.join(browser, proxies[4]));

  const expected = [];
  const everybodyHas = (what) =>
    Promise.all(members.map((m) => until(async () => (await m.texts()).length >= expected.length, `${m.name}: ${what}`)));

  for (const member of members) {
    await member.say(`hello from ${member.name}`);
    expected.push(`hello from ${member.name}`);
    await everybodyHas('hello');
  }

  // Cut under one after the other while the publisher goes on, then under all at once.
  const backend = async (text) => {
    expected.push(text);
    await server.publish(ROOM, { name: 'backend', text });
  };
  let n = 0;
  for (const cut of [...proxies.map((p) => [p]), proxies]) {
    const refused = cut.map((p) => p.refused);
    await backend(`message ${(n += 1)}`);
    cut.forEach((p) => p.cut());
    for (let i = 0; i < 8; i += 1) await backend(`message ${(n += 1)}`);
    await until(() => cut.every((p, i) => p.refused > refused[i]), 'the cut clients tried to come back', 30_000);
    cut.forEach((p) => p.mend());
    for (let i = 0; i < 3; i += 1) await backend(`message ${(n += 1)}`);
    await everybodyHas('everything after the cut');
  }

  for (const member of members) {
    await until(async () => (await member.recovered()).length === 2, `${member.name} says it recovered`);
    assert.deepEqual(await member.recovered(), [true, true], member.name);
    assert.deepEqual(await member.texts(), expected, member.name);
    assert.deepEqual(await member.offsets(), range(1, expected.length), member.name);
    await member.say(`goodbye from ${member.name}`);
    expected.push(`goodbye from ${member.name}`);
    await everybodyHas('goodbye');
  }
  for (const member of members) assert.deepEqual(await member.texts(), expected, member.name);
});
