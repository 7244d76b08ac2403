// A client of `uni_grpc` as its users make one: grpc-js, and the published schema.

import path from 'node:path';
import { fileURLToPath } from 'node:url';
import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { Server } from './server.mjs';
import { SECRET } from './token.mjs';
import { freePort, until } from './util.mjs';

const SCHEMA = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../../schema');
const options = { includeDirs: [SCHEMA], keepCase: true, longs: Number };
const { UniStream, CODES } = (() => {
  const loaded = grpc.loadPackageDefinition(loadSync('unistream.proto', options));
  return { UniStream: loaded.centrifugal.centrifugo.unistream.CentrifugoUniStream, CODES: grpc.status };
})();
export { CODES };

/** A server on two cores with `uni_grpc`, and where that is. */
export async function start(overrides = {}, how = Server.start) {
  const port = await freePort();
  const client = { allow_anonymous_connect_without_token: true, token: { hmac_secret_key: SECRET } };
  const server = await how({
    runtime: { cores: 2 },
    ...overrides,
    client: { ...client, ...overrides.client },
    uni_grpc: { enabled: true, address: '127.0.0.1', port, ...overrides.uni_grpc },
  });
  return Object.assign(server, { grpc: `127.0.0.1:${port}` });
}

/** What every publication says, as JSON. */
const said = ({ data }) => JSON.parse(data);

/** One `Consume`. `pushes` is what it heard, `status` how it ended. `certificate` (PEM): by TLS, trusting that one. */
export class Listener {
  constructor(address, request = {}, channelOptions = {}, { metadata = {}, certificate } = {}) {
    const credentials = certificate ? grpc.credentials.createSsl(certificate) : grpc.credentials.createInsecure();
    this.client = new UniStream(address, credentials, channelOptions);
    Object.assign(this, { pushes: [], status: null });
    const fields = new grpc.Metadata();
    for (const [name, value] of Object.entries(metadata)) fields.set(name, value);
    this.call = this.client.Consume(request, fields);
    this.call.on('data', (push) => this.pushes.push(push));
    // The status says the same.
    this.call.on('error', () => {});
    this.call.on('status', ({ code, details }) => (this.status = { code, details }));
  }

  connected() {
    return until(() => this.pushes[0]?.connect, 'the connect push');
  }

  /** [channel, data] of each publication. */
  get publications() {
    return this.pushes.filter((push) => push.pub).map(({ channel, pub }) => [channel, said(pub)]);
  }

  get pings() {
    return this.pushes.filter((push) => Object.keys(push).length === 0).length;
  }

  /** [code, reason] of the last push, once the stream has ended well. */
  async disconnected() {
    const status = await this.ended();
    if (status.code !== CODES.OK) throw new Error(`ended with ${JSON.stringify(status)}`);
    const { code, reason } = this.pushes.at(-1).disconnect;
    return [code, reason];
  }

  ended() {
    return until(() => this.status, 'the end of the stream');
  }

  close() {
    this.call.cancel();
    this.client.close();
  }
}

export { said };
