// Autobahn's 216 cases of permessage-deflate, 12.* and 13.*, as a table of our own: `ws` with Node's zlib against
// `examples/wsecho`. The kinds of data are made here, and fewer messages are sent where they are large.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import WebSocket from 'ws';
import { agreed, Echo } from '../lib/echo.mjs';
import { within } from '../lib/util.mjs';

// Size of a message, and of its fragments (0: one frame). The last number of a case.
const SIZES = [
  ...[16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072].map((size) => [size, 0]),
  ...[8192, 16384, 32768, 65536, 131072].map((size) => [size, 256]),
  ...[1024, 4096, 32768].map((fragment) => [131072, fragment]),
];

/** Bytes sent in a case. Autobahn sends 1000 messages of any size. */
const CASE_BYTES = 1 << 19;

const DATA_BYTES = 1 << 18;

function random(seed) {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function repeat(make) {
  const parts = [];
  for (let bytes = 0; bytes < DATA_BYTES; bytes += Buffer.byteLength(parts.at(-1))) parts.push(make(parts.length));
  return Buffer.from(parts.join('')).subarray(0, DATA_BYTES);
}

const WORDS = 'habe nun ach Philosophie Juristerei und Medizin und leider auch Theologie durchaus studiert mit heißem Bemühn für große Müh'.split(' ');
const pick = random(7);
const noise = Buffer.from(Array.from({ length: DATA_BYTES }, () => pick(256)));

// The five kinds of data of 12.1 to 12.5.
const DATA = {
  json: { text: true, shrinks: true, bytes: repeat((n) => JSON.stringify({ id: n, price: pick(100_000) / 100, tags: ['a', 'b'], name: `item ${n}` })) },
  bitmap: { text: false, shrinks: true, bytes: Buffer.from(Array.from({ length: DATA_BYTES }, (_, n) => 100 + ((n % 512) >> 4) + pick(4))) },
  prose: { text: true, shrinks: true, bytes: repeat((n) => WORDS[pick(WORDS.length)] + (n % 11 === 10 ? ',\n' : ' ')) },
  html: { text: true, shrinks: true, bytes: repeat((n) => `<tr class="row${n % 2}"><td><a href="/item/${n}">Ding ${pick(999)}</a></td></tr>\n`) },
  pdf: { text: false, shrinks: false, bytes: noise },
};

const ANSWER = 'permessage-deflate; server_no_context_takeover; client_no_context_takeover';
const offer = (takeover, bits) =>
  `permessage-deflate${takeover ? '; server_no_context_takeover' : ''}${bits ? `; server_max_window_bits=${bits}` : ''}`;

// By the first two numbers: the data, what the client offers (the default of Autobahn is the bare name), the answer.
const CASES = [
  ...Object.keys(DATA).map((data, n) => ({ name: `12.${n + 1}`, data, offers: [[false, 0]], answer: '' })),
  { name: '13.1', offers: [[false, 0]], answer: '' },
  { name: '13.2', offers: [[true, 0]], answer: '' },
  { name: '13.3', offers: [[false, 9]], answer: '; server_max_window_bits=9' },
  { name: '13.4', offers: [[false, 15]], answer: '; server_max_window_bits=15' },
  { name: '13.5', offers: [[true, 9]], answer: '; server_max_window_bits=9' },
  { name: '13.6', offers: [[true, 15]], answer: '; server_max_window_bits=15' },
  { name: '13.7', offers: [[true, 9], [true, 0], [false, 0]], answer: '; server_max_window_bits=9' },
].map((row) => ({ data: 'json', ...row }));

let echo;
before(async () => (echo = await Echo.start()));
after(() => echo?.stop());

/** A client that offers exactly these. */
async function connect(extensions, options = {}) {
  const ws = new WebSocket(echo.url, {
    perMessageDeflate: { threshold: 0, ...options },
    maxPayload: 1 << 24,
    finishRequest: (request) => {
      request.setHeader('Sec-WebSocket-Extensions', extensions);
      request.end();
    },
  });
  await within(new Promise((resolve, reject) => ws.on('open', resolve).on('error', reject)), 'open');
  return ws;
}

function send(ws, message, fragment) {
  if (!fragment) return ws.send(message, { compress: true });
  const bytes = Buffer.from(message);
  const binary = typeof message !== 'string';
  for (let at = 0; at < bytes.length; at += fragment) {
    const fin = at + fragment >= bytes.length;
    ws.send(bytes.subarray(at, at + fragment), { compress: true, fin, binary });
  }
}

/** Sends every message and compares what comes back; resolves with the bytes that came. */
async function exchange(ws, messages, fragment) {
  let next = 0;
  const before = ws._socket.bytesRead;
  const done = new Promise((resolve, reject) => {
    ws.on('message', (data, binary) => {
      try {
        const want = messages[next];
        assert.equal(binary, typeof want !== 'string');
        assert.ok(Buffer.from(want).equals(data), `message ${next} came back changed`);
      } catch (error) {
        return reject(error);
      }
      next += 1;
      if (next === messages.length) resolve();
    });
    ws.on('close', (code) => reject(new Error(`closed with ${code} after ${next} messages`)));
  });
  for (const message of messages) send(ws, message, fragment);
  await within(done, `${messages.length} echoes`, 120_000);
  return ws._socket.bytesRead - before;
}

function cut({ text, bytes }, size, count) {
  return Array.from({ length: count }, (_, n) => {
    const from = (n * size) % (bytes.length - size + 1);
    const piece = bytes.subarray(from, from + size);
    return text ? piece.toString() : piece;
  });
}

for (const { name, data, offers, answer } of CASES) {
  describe(`${name}: ${data}, offers ${JSON.stringify(offers)}`, () => {
    SIZES.forEach(([size, fragment], index) => {
      test(`${name}.${index + 1}: ${size} bytes, fragments of ${fragment}`, async () => {
        const ws = await connect(offers.map((it) => offer(...it)).join(', '));
        assert.equal(agreed(ws), `${ANSWER}${answer}`);
        const messages = cut(DATA[data], size, Math.min(1000, Math.max(3, Math.floor(CASE_BYTES / size))));
        const came = await exchange(ws, messages, fragment);
        const sent = messages.reduce((sum, message) => sum + Buffer.byteLength(message), 0);
        if (DATA[data].shrinks && size >= 1024) assert.ok(came < sent * 0.9, `${came} bytes came for ${sent}`);
        else assert.ok(came <= sent + messages.length * 10, `${came} bytes came for ${sent}`);
        ws.removeAllListeners('close');
        ws.terminate();
      });
    });
  });
}

test('there are 216', () => assert.equal(CASES.length * SIZES.length, 216));

describe('beyond the 216', () => {
  // Smaller windows make other streams: what a client with that window cannot read would fail here.
  for (const [bits, got] of [[8, 8], [9, 9], [10, 9], [11, 9], [12, 12], [13, 12], [14, 12], [15, 15]]) {
    test(`a client with a window of ${bits} bits`, async () => {
      const ws = await connect(`permessage-deflate; client_max_window_bits; server_max_window_bits=${bits}`);
      assert.equal(agreed(ws), `${ANSWER}; server_max_window_bits=${got}`);
      const came = await exchange(ws, cut(DATA.html, 100_000, 3), 0);
      assert.equal(came < 150_000, bits > 8, `${came} bytes`);
      ws.removeAllListeners('close');
      ws.terminate();
    });
  }

  test('what cannot be agreed on goes uncompressed', async () => {
    const ws = await connect('permessage-deflate; server_max_window_bits=7, x-webkit-deflate-frame');
    assert.equal(agreed(ws), '');
    assert.ok((await exchange(ws, cut(DATA.json, 4096, 10), 0)) > 40_960);
    ws.removeAllListeners('close');
    ws.terminate();
  });

  test('ends of a connection', async () => {
    for (const [what, bytes, want] of [
      ['not DEFLATE', [0xc2, 0x82, 0, 0, 0, 0, 0xff, 0xff], 1007],
      ['text that is not UTF-8', [0xc1, 0x87, 0, 0, 0, 0, 0x00, 0x01, 0x00, 0xfe, 0xff, 0xff, 0x00], 1007],
      ['RSV1 on a continuation', [0x41, 0x81, 0, 0, 0, 0, 0, 0xc0, 0x80, 0, 0, 0, 0], 1002],
      ['RSV1 on a ping', [0xc9, 0x80, 0, 0, 0, 0], 1002],
    ]) {
      const ws = await connect('permessage-deflate');
      const closed = new Promise((resolve) => ws.on('close', resolve));
      ws._socket.write(Buffer.from(bytes));
      assert.equal(await within(closed, 'close'), want, what);
    }
  });
});
