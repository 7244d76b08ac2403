// The set-up of files whose clients lose their connection: a server, and a proxy before it that can be cut.

import { after } from 'node:test';
import { Proxy } from './proxy.mjs';

/** `const { server, proxy } = await behindProxy(Server.start())`; both are ended after the tests of the file. */
export async function behindProxy(starting) {
  const server = await starting;
  const proxy = await Proxy.start(server.port);
  after(async () => {
    await proxy.stop();
    await server.stop();
  });
  return { server, proxy };
}
