// A TCP proxy that can be cut: open connections are reset and new ones refused until it is mended.

import net from 'node:net';

export class Proxy {
  static start(targetPort) {
    const proxy = new Proxy();
    proxy.sockets = new Set();
    proxy.isCut = false;
    proxy.refused = 0;
    proxy.server = net.createServer((near) => {
      if (proxy.isCut) {
        proxy.refused += 1;
        near.resetAndDestroy();
        return;
      }
      const far = net.connect(targetPort, '127.0.0.1');
      for (const [one, other] of [[near, far], [far, near]]) {
        proxy.sockets.add(one);
        one.setNoDelay(true);
        one.on('data', (chunk) => {
          if (!other.write(chunk)) one.pause();
        });
        other.on('drain', () => one.resume());
        one.on('end', () => other.end());
        one.on('error', () => {});
        one.on('close', () => {
          proxy.sockets.delete(one);
          other.destroy();
        });
      }
    });
    return new Promise((resolve, reject) => {
      proxy.server.once('error', reject);
      proxy.server.listen(0, '127.0.0.1', () => resolve(proxy));
    });
  }

  get port() {
    return this.server.address().port;
  }

  get ws() {
    return `ws://127.0.0.1:${this.port}/connection/websocket`;
  }

  cut() {
    this.isCut = true;
    for (const socket of this.sockets) socket.resetAndDestroy();
  }

  mend() {
    this.isCut = false;
  }

  stop() {
    this.cut();
    return new Promise((resolve) => this.server.close(resolve));
  }
}
