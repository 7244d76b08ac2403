// Debian's Chromium on the chat page.

import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { serve } from '../../../examples/chat/serve.mjs';
import { DEADLINE_MS, until } from './util.mjs';

const ARTIFACTS = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../artifacts');

export class Browser {
  static async start() {
    const browser = new Browser();
    browser.site = await serve(0);
    browser.chromium = await chromium.launch({
      executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
      args: ['--no-sandbox', '--disable-dev-shm-usage'],
    });
    return browser;
  }

  /** The chat page in a browser context of its own. */
  async open({ server, room, name }) {
    const context = await this.chromium.newContext({ viewport: { width: 900, height: 620 } });
    const page = await context.newPage();
    page.setDefaultTimeout(DEADLINE_MS);
    const chat = new ChatPage();
    chat.page = page;
    chat.errors = [];
    page.on('pageerror', (error) => chat.errors.push(error));
    const query = new URLSearchParams({ server, room, name });
    await page.goto(`http://127.0.0.1:${this.site.address().port}/?${query}`);
    await chat.state('connected');
    await page.waitForSelector('#people li');
    return chat;
  }

  /** A page of the site with the SDK and nothing else. */
  async blank() {
    const page = await (await this.chromium.newContext()).newPage();
    page.setDefaultTimeout(DEADLINE_MS);
    await page.goto(`http://127.0.0.1:${this.site.address().port}/chat.css`);
    await page.addScriptTag({ url: '/centrifuge.js' });
    return page;
  }

  async stop() {
    await this.chromium?.close();
    this.site?.closeAllConnections();
    this.site?.close();
  }
}

export class ChatPage {
  state(state) {
    return this.page.waitForSelector(`#status[data-state="${state}"]`);
  }

  async say(text) {
    await this.page.fill('#text', text);
    await this.page.click('button');
    await this.page.waitForFunction(() => document.getElementById('text').value === '');
  }

  /** What the page shows, in its order. */
  messages() {
    return this.page.$$eval('#messages li[data-kind="message"]', (items) =>
      items.map((item) => ({
        offset: Number(item.dataset.offset),
        from: item.querySelector('.from').textContent,
        text: item.querySelector('.text').textContent,
      })),
    );
  }

  notes(kind) {
    return this.page.$$eval(`#messages li[data-kind="${kind}"]`, (items) => items.map((item) => item.textContent));
  }

  people() {
    return this.page.$$eval('#people li', (items) => items.map((item) => item.textContent));
  }

  async heard(count, what) {
    return until(async () => {
      const all = await this.messages();
      return all.length >= count && all;
    }, what);
  }

  async screenshot(name) {
    fs.mkdirSync(ARTIFACTS, { recursive: true });
    await this.page.screenshot({ path: path.join(ARTIFACTS, `${name}.png`) });
  }
}
