// What the README shows: serve --dev, a curl call, the JavaScript lines.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Peer, SDKS } from '../lib/sdk.mjs';
import { Server } from '../lib/server.mjs';
import { until } from '../lib/util.mjs';

let server;
before(async () => (server = await Server.dev()));
after(() => server?.stop());

for (const sdk of SDKS) {
  test(`${sdk.name}: any channel, publish by client and by HTTP, presence, join, history`, async () => {
    const name = `news-${sdk.name}`;
    const [one, other] = [await new Peer(sdk, server.ws).connect(), await new Peer(sdk, server.ws).connect()];
    const room = await one.join(name);
    await other.join(name);
    await other.publish(name, { by: 'client' });
    const response = await fetch(`${server.http}/api/publish`, {
      method: 'POST',
      body: JSON.stringify({ channel: name, data: { by: 'http' } }),
    });
    assert.equal(response.status, 200);
    assert.equal((await response.json()).result.offset, 2);
    await until(() => room.data.length === 2, 'both publications');
    assert.deepEqual(room.data, [{ by: 'client' }, { by: 'http' }]);
    assert.deepEqual(room.joined, [one.id, other.id]);
    assert.equal(Object.keys((await room.sub.presence()).clients).length, 2);
    assert.equal((await room.sub.history({ limit: -1 })).publications.length, 2);
    assert.equal(room.subscribed[0].recoverable, true);
    one.close();
    other.close();
  });
}

test('a page of another port may connect', async () => {
  const response = await fetch(`${server.http}/connection/websocket`, { headers: { Origin: 'http://127.0.0.1:8080' } });
  assert.notEqual(response.status, 403);
});
