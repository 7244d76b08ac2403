// A static server for the page: no dependency, loopback only. The client's bundle comes from node_modules, so that no
// copy of it lies in the repository. `npm start [port]`, 8080 by default.

import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const PAGE = new Map([
  ['/', ['index.html', 'text/html; charset=utf-8']],
  ['/chat.js', ['chat.js', 'text/javascript; charset=utf-8']],
  ['/chat.css', ['chat.css', 'text/css; charset=utf-8']],
]);
// The page's own install, or that of the SDK tests.
const BUNDLES = ['node_modules', '../../tests/sdk/node_modules'].map((folder) =>
  path.join(HERE, folder, 'centrifuge/dist/centrifuge.js'),
);

/** Serves the page; port 0 takes any free one. Resolves to the server. */
export function serve(port) {
  const bundle = BUNDLES.find((file) => fs.existsSync(file));
  if (!bundle) throw new Error('centrifuge is not installed: run "npm install" in examples/chat');
  const server = http.createServer((request, response) => {
    const name = request.url.split('?')[0];
    const [file, type] = name === '/centrifuge.js' ? [bundle, 'text/javascript'] : PAGE.get(name) ?? [];
    if (!file) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { 'Content-Type': type, 'Cache-Control': 'no-store' });
    fs.createReadStream(path.resolve(HERE, file)).pipe(response);
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve(server));
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const server = await serve(Number(process.argv[2] ?? 8080));
  console.log(`chat page: http://127.0.0.1:${server.address().port}/`);
}
