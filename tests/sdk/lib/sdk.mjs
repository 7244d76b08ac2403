// The JavaScript SDK in its two encodings behind one face: `make`, `pack`, `unpack`.

import { Centrifuge as JsonCentrifuge } from 'centrifuge';
import { Centrifuge as ProtobufCentrifuge } from 'centrifuge/build/protobuf';
import WebSocket from 'ws';
import { once, until } from './util.mjs';

const options = { websocket: WebSocket, minReconnectDelay: 50, maxReconnectDelay: 300, timeout: 10_000 };
const text = { encode: new TextEncoder(), decode: new TextDecoder() };

export const JSON_SDK = {
  name: 'JSON',
  make: (url, more) => new JsonCentrifuge(url, { ...options, ...more }),
  pack: (value) => value,
  unpack: (data) => data,
};

export const PROTOBUF_SDK = {
  name: 'Protobuf',
  make: (url, more) => new ProtobufCentrifuge(url, { ...options, ...more }),
  pack: (value) => text.encode.encode(JSON.stringify(value)),
  unpack: (data) => JSON.parse(text.decode.decode(data)),
};

export const SDKS = [JSON_SDK, PROTOBUF_SDK];

/** A client that notes everything it is told. */
export class Peer {
  constructor(sdk, url, more = {}) {
    this.sdk = sdk;
    this.client = sdk.make(url, more);
    this.connecting = [];
    this.disconnected = [];
    this.client.on('connecting', (ctx) => this.connecting.push(ctx));
    this.client.on('disconnected', (ctx) => this.disconnected.push(ctx));
    this.client.on('connected', (ctx) => (this.id = ctx.client));
  }

  async connect() {
    const connected = once(this.client, 'connected');
    this.client.connect();
    await connected;
    return this;
  }

  /** Subscribes and returns the room: what was heard in the channel. */
  async join(channel, subscribeOptions = {}) {
    const room = this.listen(channel, subscribeOptions);
    room.sub.subscribe();
    await until(() => room.subscribed.length > 0 || room.unsubscribed.length > 0, `subscribed to ${channel}`);
    if (room.unsubscribed.length > 0) throw Object.assign(new Error('unsubscribed'), room.unsubscribed[0]);
    return room;
  }

  listen(channel, subscribeOptions = {}) {
    const sub = this.client.newSubscription(channel, {
      joinLeave: true,
      minResubscribeDelay: 50,
      maxResubscribeDelay: 300,
      ...subscribeOptions,
    });
    const room = { sub, publications: [], data: [], subscribed: [], unsubscribed: [], joined: [], left: [], errors: [] };
    sub.on('publication', (ctx) => {
      room.publications.push(ctx);
      room.data.push(this.sdk.unpack(ctx.data));
    });
    sub.on('subscribed', (ctx) => room.subscribed.push(ctx));
    sub.on('unsubscribed', (ctx) => room.unsubscribed.push(ctx));
    sub.on('join', (ctx) => room.joined.push(ctx.info.client));
    sub.on('leave', (ctx) => room.left.push(ctx.info.client));
    sub.on('error', (ctx) => room.errors.push(ctx.error));
    return room;
  }

  publish(channel, value) {
    return this.client.publish(channel, this.sdk.pack(value));
  }

  close() {
    this.client.disconnect();
  }
}
