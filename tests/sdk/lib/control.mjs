// A well-behaved client and a steady publisher: whatever others do to the server, it must miss nothing.

import assert from 'node:assert/strict';
import { JSON_SDK, Peer } from './sdk.mjs';
import { channel, range, sleep, until } from './util.mjs';

export class Control {
  static async start(server) {
    const control = new Control();
    control.server = server;
    control.channel = channel();
    control.peer = await new Peer(JSON_SDK, server.ws).connect();
    control.room = await control.peer.join(control.channel);
    control.running = true;
    control.sent = 0;
    control.loop = control.publish();
    control.loop.catch(() => {}); // reported by finish
    return control;
  }

  /** Runs the attack beside a control client that must miss nothing. */
  static async beside(server, attack) {
    const control = await Control.start(server);
    try {
      await attack();
      await control.finish();
    } finally {
      control.running = false;
      await control.loop.catch(() => {});
      control.peer.close();
    }
  }

  async publish() {
    while (this.running) {
      await this.server.publish(this.channel, { n: this.sent + 1 });
      this.sent += 1;
      await sleep(10);
    }
  }

  /** Ends the publisher; every beat must have come, once, in order, on the first connection. */
  async finish() {
    this.running = false;
    await this.loop;
    await until(() => this.room.data.length >= this.sent, `all ${this.sent} beats (have ${this.room.data.length})`);
    assert.deepEqual(this.room.data.map((d) => d.n), range(1, this.sent));
    assert.equal(this.peer.connecting.length, 1, 'the control client was cut');
    assert.ok(this.sent > 0);
  }
}
