// The client protocol by hand, for what an SDK would never do.

import net from 'node:net';
import WebSocket from 'ws';
import { DEADLINE_MS, once, until, within } from './util.mjs';

/** A WebSocket speaking JSON lines; `messages` holds every reply and push in order. */
export class Raw {
  static async open(url, options = {}) {
    const raw = new Raw();
    raw.frames = [];
    raw.messages = [];
    raw.answerPings = options.answerPings ?? true;
    raw.pings = 0;
    raw.socket = new WebSocket(url, options.protocols ?? [], { perMessageDeflate: false, ...options.ws });
    raw.closed = new Promise((resolve) =>
      raw.socket.on('close', (code, reason) => resolve((raw.close = { code, reason: reason.toString() }))),
    );
    raw.socket.on('message', (data) => {
      const frame = data.toString();
      raw.frames.push(frame);
      for (const line of frame.trim().split('\n')) raw.note(JSON.parse(line));
    });
    await within(
      new Promise((resolve, reject) => raw.socket.on('open', resolve).on('error', reject)),
      'WebSocket open',
    );
    raw.socket.on('error', () => {});
    return raw;
  }

  static async connected(url, options) {
    const raw = await Raw.open(url, options);
    raw.id = (await raw.call({ id: 1, connect: {} })).connect.client;
    return raw;
  }

  note(message) {
    if (Object.keys(message).length === 0) {
      this.pings += 1;
      if (this.answerPings) this.socket.send('{}');
    } else {
      this.messages.push(message);
    }
  }

  send(...commands) {
    this.socket.send(commands.map((c) => (typeof c === 'string' ? c : JSON.stringify(c))).join('\n'));
  }

  reply(id, deadlineMs) {
    return until(() => this.messages.find((m) => m.id === id), `reply ${id}`, deadlineMs);
  }

  call(command) {
    this.send(command);
    return this.reply(command.id);
  }

  /** Code and reason of the close frame. */
  ended(deadlineMs = DEADLINE_MS) {
    return within(this.closed, 'close', deadlineMs);
  }

  end() {
    this.socket.terminate();
  }
}

/** A plain TCP connection to the server; errors only set `gone`. */
export async function dial(port) {
  const socket = net.connect(port, '127.0.0.1');
  socket.on('error', () => {});
  socket.gone = new Promise((resolve) =>
    socket.once('close', () => {
      socket.isGone = true;
      resolve();
    }),
  );
  await once(socket, 'connect');
  return socket;
}

export const UPGRADE = [
  'GET /connection/websocket HTTP/1.1',
  'Host: 127.0.0.1',
  'Upgrade: websocket',
  'Connection: Upgrade',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
  'Sec-WebSocket-Version: 13',
  '',
  '',
].join('\r\n');

/** One client frame, masked with zeros (which leaves the payload readable). */
export function frame(payload, { opcode = 1, fin = true } = {}) {
  const body = Buffer.from(payload);
  const head = [(fin ? 0x80 : 0) | opcode];
  if (body.length < 126) head.push(0x80 | body.length);
  else if (body.length < 65_536) head.push(0x80 | 126, body.length >> 8, body.length & 0xff);
  else throw new Error('frame() is for less than 64 KiB');
  return Buffer.concat([Buffer.from(head), Buffer.alloc(4), body]);
}

/** Resolves when the socket has received the text. */
function heard(socket, text) {
  let seen = '';
  const answered = new Promise((resolve) => {
    const look = (chunk) => {
      seen += chunk.toString('latin1');
      if (!seen.includes(text)) return;
      socket.off('data', look);
      resolve();
    };
    socket.on('data', look);
  });
  return within(answered, `${JSON.stringify(text)} on a raw socket`);
}

/** Handshake and commands on a plain socket; resolves when the marker has come back. */
export async function dialUpgraded(port, commands, marker) {
  const socket = await dial(port);
  socket.write(UPGRADE);
  await heard(socket, '\r\n\r\n');
  socket.write(frame(commands));
  await heard(socket, marker);
  return socket;
}
