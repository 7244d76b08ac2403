// The SDK where there is no WebSocket: each transport with each encoding it has.

import { EventSource } from 'eventsource';
import { JSON_SDK, PROTOBUF_SDK } from './sdk.mjs';

/** An SDK that only knows the transport `name`; its `make` takes the server's address. */
function over(sdk, name, more) {
  return {
    ...sdk,
    name: `${sdk.name} over ${name}`,
    transport: name,
    make: (http, options) =>
      sdk.make([{ transport: name, endpoint: `${http}/connection/${name}` }], {
        emulationEndpoint: `${http}/emulation`,
        ...more,
        ...options,
      }),
  };
}

export const FALLBACKS = [
  over(JSON_SDK, 'http_stream', { fetch, readableStream: ReadableStream }),
  over(PROTOBUF_SDK, 'http_stream', { fetch, readableStream: ReadableStream }),
  over(JSON_SDK, 'sse', { fetch, eventsource: EventSource }),
];
