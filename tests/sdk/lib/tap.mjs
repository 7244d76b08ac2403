// What the SDK is told and does not tell: some of the protocol has no event of its own.

import WebSocket from 'ws';
import { Peer } from './sdk.mjs';
import { until } from './util.mjs';

/** A `Peer` whose `told` are all replies and pushes so far, as the SDK's own codec reads them. `headers` go with the handshake. */
export function tapped(sdk, url, { headers, ...more } = {}) {
  const frames = [];
  class Tap extends WebSocket {
    constructor(address, protocols = []) {
      super(address, protocols, { headers });
      this.on('message', (data, isBinary) => frames.push(isBinary ? data : data.toString()));
    }
  }
  const peer = new Peer(sdk, url, { ...more, websocket: Tap });
  const told = () => frames.flatMap((frame) => peer.client._codec.decodeReplies(frame));
  return Object.defineProperty(peer, 'told', { get: told });
}

/** How a connect ends: 0 when the client is in, else the code it is kept out with for good. */
export async function enter(peer) {
  peer.client.connect();
  await until(() => peer.id || peer.disconnected.length > 0, 'in or out');
  return peer.id ? 0 : peer.disconnected[0].code;
}
