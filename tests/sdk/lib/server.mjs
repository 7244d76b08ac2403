// Starts the server under test on a free port, and ends exactly that process.

import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import https from 'node:https';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort, until, within } from './util.mjs';

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../..');
export const API_KEY = 'sdk-tests-key';

/** `SERVER_BIN`, else the newest of the release and the debug build. */
export function binary() {
  if (process.env.SERVER_BIN) return process.env.SERVER_BIN;
  const target = process.env.CARGO_TARGET_DIR ?? path.join(ROOT, 'target');
  const built = ['release', 'debug'].map((p) => path.join(target, p, 'corecast')).filter((p) => fs.existsSync(p));
  if (built.length === 0) throw new Error('no corecast binary: run "cargo build --release" or set SERVER_BIN');
  return built.sort((a, b) => fs.statSync(b).mtimeMs - fs.statSync(a).mtimeMs)[0];
}

export const open = {
  presence: true,
  join_leave: true,
  force_recovery: true,
  history_size: 100,
  history_ttl: '300s',
  allow_subscribe_for_client: true,
  allow_subscribe_for_anonymous: true,
  allow_publish_for_client: true,
  allow_publish_for_anonymous: true,
  allow_presence_for_client: true,
  allow_presence_for_anonymous: true,
  allow_history_for_client: true,
  allow_history_for_anonymous: true,
};

/** Namespaces: chat allows everything, small keeps three, plain only subscribes, locked allows nothing. */
export function config(overrides = {}) {
  const base = {
    http_server: { address: '127.0.0.1' },
    http_api: { key: API_KEY },
    client: { allowed_origins: ['*'], allow_anonymous_connect_without_token: true },
    channel: {
      without_namespace: open,
      namespaces: [
        { name: 'chat', ...open },
        { name: 'small', ...open, history_size: 3 },
        { name: 'plain', allow_subscribe_for_client: true, allow_subscribe_for_anonymous: true },
        { name: 'locked' },
      ],
    },
  };
  for (const [section, values] of Object.entries(overrides)) base[section] = { ...base[section], ...values };
  return base;
}

export class Server {
  constructor(args, port, key, directory) {
    Object.assign(this, { args, port, key, directory, log: '', exit: null });
  }

  /** `serve --config FILE`: what most tests use. */
  static async start(overrides = {}, port = undefined) {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'corecast-sdk-'));
    const file = path.join(directory, 'config.json');
    fs.writeFileSync(file, JSON.stringify(config(overrides)));
    return Server.launch(['serve', '--config', file], API_KEY, directory, port);
  }

  /** The same behind TLS, with a certificate made for it; `server.ca` is what clients have to trust. */
  static async startTls(overrides = {}) {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'corecast-sdk-'));
    const [cert, key] = [path.join(directory, 'cert.pem'), path.join(directory, 'key.pem')];
    Server.certificate(cert, key);
    const tls = { enabled: true, cert_pem: cert, key_pem: key };
    const file = path.join(directory, 'config.json');
    fs.writeFileSync(file, JSON.stringify(config({ ...overrides, http_server: { tls } })));
    return Server.launch(['serve', '--config', file], API_KEY, directory, undefined, cert);
  }

  static certificate(cert, key) {
    execFileSync(binary(), ['gen-cert', '--cert', cert, '--key', key]);
  }

  /** `serve --dev`: what the README starts. */
  static dev() {
    return Server.launch(['serve', '--dev'], '', undefined, undefined);
  }

  static async launch(args, key, directory, fixedPort, certificate) {
    const port = fixedPort ?? (await freePort());
    const server = new Server([...args, '--set', `http_server.port=${port}`], port, key, directory);
    if (certificate) Object.assign(server, { certificate, ca: fs.readFileSync(certificate) });
    await server.run();
    return server;
  }

  async run() {
    this.exit = null;
    this.child = spawn(binary(), this.args, { stdio: ['ignore', 'pipe', 'pipe'] });
    const { child } = this;
    const orphan = () => child.kill('SIGKILL');
    process.once('exit', orphan);
    child.once('exit', () => process.off('exit', orphan));
    const keep = (chunk) => (this.log = (this.log + chunk).slice(-20_000));
    this.child.stdout.on('data', keep);
    this.child.stderr.on('data', keep);
    this.exited = new Promise((resolve) => {
      this.child.once('exit', (code, signal) => resolve((this.exit = { code, signal })));
      this.child.once('error', (error) => resolve((this.exit = { code: String(error), signal: null })));
    });
    await until(async () => {
      if (this.exit) throw new Error(`server ended: ${JSON.stringify(this.exit)}\n${this.log}`);
      return this.healthy();
    }, 'server healthy');
  }

  healthy() {
    if (!this.ca) return fetch(`${this.http}/health`).then((r) => r.ok, () => false);
    return new Promise((resolve) => {
      const answered = (response) => resolve(response.resume().statusCode === 200);
      https.get(`${this.http}/health`, { ca: this.ca, agent: false }, answered).on('error', () => resolve(false));
    });
  }

  get http() {
    return `http${this.ca ? 's' : ''}://127.0.0.1:${this.port}`;
  }

  get ws() {
    return `ws${this.ca ? 's' : ''}://127.0.0.1:${this.port}/connection/websocket`;
  }

  /** The raw answer of an API call. */
  request(method, body, headers = { 'X-API-Key': this.key }) {
    return fetch(`${this.http}/api/${method}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...headers },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    });
  }

  /** `result` of an API call that must succeed. */
  async api(method, body) {
    const response = await this.request(method, body);
    const text = await response.text();
    if (response.status !== 200) throw new Error(`${method}: HTTP ${response.status} ${text}`);
    const answer = JSON.parse(text);
    if (!answer.result) throw new Error(`${method}: ${text}`);
    return answer.result;
  }

  publish(channel, data) {
    return this.api('publish', { channel, data });
  }

  /** SIGTERM, and how the process ended. */
  async terminate() {
    this.child.kill('SIGTERM');
    return within(this.exited, 'server exit after SIGTERM', 20_000);
  }

  /** For `after`: ends the process whatever state it is in. Fails if it had died by itself. */
  async stop() {
    const died = this.exit && !this.stopped;
    if (!this.exit) {
      this.stopped = true;
      this.child.kill('SIGTERM');
      await within(this.exited, 'server exit', 20_000).catch(() => this.child.kill('SIGKILL'));
      await this.exited;
    }
    if (this.directory) fs.rmSync(this.directory, { recursive: true, force: true });
    if (died) throw new Error(`server died during the tests: ${JSON.stringify(this.exit)}\n${this.log}`);
  }
}
