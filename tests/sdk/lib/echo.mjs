// The echo server of `examples/wsecho` on a free port.

import { spawn } from 'node:child_process';
import path from 'node:path';
import { binary } from './server.mjs';
import { freePort, until, within } from './util.mjs';

export class Echo {
  /** Beside the server's program, in `examples`, unless `WSECHO_BIN` says otherwise. */
  static async start() {
    const echo = new Echo();
    echo.port = await freePort();
    const program = process.env.WSECHO_BIN ?? path.join(path.dirname(binary()), 'examples/wsecho');
    echo.child = spawn(program, [`127.0.0.1:${echo.port}`], { stdio: ['ignore', 'ignore', 'pipe'] });
    const { child } = echo;
    const orphan = () => child.kill('SIGKILL');
    process.once('exit', orphan);
    child.once('exit', () => process.off('exit', orphan));
    let said = '';
    child.stderr.on('data', (chunk) => (said += chunk));
    echo.exited = new Promise((resolve) => {
      child.once('exit', (code, signal) => resolve((echo.exit = { code, signal })));
      child.once('error', (error) => resolve((echo.exit = { code: String(error), signal: null })));
    });
    await until(() => {
      if (echo.exit) throw new Error(`${program} ended: ${JSON.stringify(echo.exit)}\n${said}`);
      return said.includes('echo on ');
    }, 'wsecho listening');
    return echo;
  }

  get url() {
    return `ws://127.0.0.1:${this.port}`;
  }

  async stop() {
    const died = this.exit;
    this.child.kill('SIGKILL');
    await within(this.exited, 'wsecho exit');
    if (died) throw new Error(`wsecho had ended by itself: ${JSON.stringify(died)}`);
  }
}

/** What a `ws` agreed on about compression, as its handshake said it; empty for nothing. */
export function agreed(ws) {
  const params = ws._extensions['permessage-deflate']?.params;
  if (!params) return ws.extensions;
  return ['permessage-deflate', ...Object.entries(params).map(([key, value]) => (value === true ? key : `${key}=${value}`))].join('; ');
}
