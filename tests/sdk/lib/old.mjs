// SDKs that speak version 1 of the protocol, behind the face of `sdk.mjs`.

import { createRequire } from 'node:module';
import WebSocket from 'ws';
import { once, until } from './util.mjs';

const require = createRequire(import.meta.url);
const text = { encode: new TextEncoder(), decode: new TextDecoder() };
const inJson = { pack: (value) => value, unpack: (data) => data };
const inBytes = {
  pack: (value) => text.encode.encode(JSON.stringify(value)),
  unpack: (data) => JSON.parse(text.decode.decode(data)),
};
const options = { websocket: WebSocket, minRetry: 10, maxRetry: 100, timeout: 10_000, refreshInterval: 10 };

function sdk(name, module, positions, face, query = '') {
  const Centrifuge = require(module);
  return { name, positions, ...face, make: (url, more) => new Centrifuge(url + query, { ...options, ...more }) };
}

// The last SDK of this version, and one from before positions were offsets.
export const LATE_JSON = sdk('2.8, JSON', 'centrifuge-v2', 'offset', inJson);
export const LATE_PROTOBUF = sdk('2.8, Protobuf', 'centrifuge-v2/dist/centrifuge.protobuf.js', 'offset', inBytes, '?format=protobuf');
export const EARLY_JSON = sdk('2.4, JSON', 'centrifuge-v1', 'seq_gen', inJson);
export const EARLY_PROTOBUF = sdk('2.4, Protobuf', 'centrifuge-v1/dist/centrifuge.protobuf.js', 'seq_gen', inBytes, '?format=protobuf');
export const OLD_SDKS = [LATE_JSON, LATE_PROTOBUF, EARLY_JSON, EARLY_PROTOBUF];

/**
 * What was heard in a room, by place. These SDKs emit publications of frames that come close together in an order of their
 * own; the order of the frames is tested by hand.
 */
export function heard(sdk, room) {
  const place = ({ publication }) => Number(publication[sdk.positions === 'offset' ? 'offset' : 'seq']);
  const all = room.publications.map((publication, index) => ({ publication, data: room.data[index] }));
  return all.sort((a, b) => place(a) - place(b)).map(({ data }) => data);
}

/** A client that notes everything it is told. */
export class OldPeer {
  constructor(sdk, url, more = {}) {
    this.sdk = sdk;
    this.client = sdk.make(url, { ...more, onTransportClose: (ctx) => this.closes.push(ctx) });
    this.closes = [];
    this.connected = [];
    this.disconnected = [];
    this.client.on('connect', (ctx) => {
      this.connected.push(ctx);
      this.id = ctx.client;
    });
    this.client.on('disconnect', (ctx) => this.disconnected.push(ctx));
  }

  token(token) {
    this.client.setToken(token);
    return this;
  }

  async connect() {
    const connected = once(this.client, 'connect');
    this.client.connect();
    await connected;
    return this;
  }

  listen(channel) {
    const room = { publications: [], data: [], subscribed: [], unsubscribed: [], joined: [], left: [], errors: [] };
    room.sub = this.client.subscribe(channel, {
      publish: (ctx) => {
        room.publications.push(ctx);
        room.data.push(this.sdk.unpack(ctx.data));
      },
      subscribe: (ctx) => room.subscribed.push(ctx),
      unsubscribe: (ctx) => room.unsubscribed.push(ctx),
      join: (ctx) => room.joined.push(ctx.info.client),
      leave: (ctx) => room.left.push(ctx.info.client),
      error: (ctx) => room.errors.push(ctx),
    });
    return room;
  }

  async join(channel) {
    const room = this.listen(channel);
    await until(() => room.subscribed.length + room.errors.length > 0, `subscribed to ${channel}`);
    return room;
  }

  publish(channel, value) {
    return this.client.publish(channel, this.sdk.pack(value));
  }

  close() {
    this.client.disconnect();
  }
}
