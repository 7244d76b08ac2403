// Waiting with a deadline. Every deadline is generous: it only bounds a failure, it never paces a test.

import net from 'node:net';

export const DEADLINE_MS = 15_000;

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Polls until `check` returns something truthy, which is the result. */
export async function until(check, what, deadlineMs = DEADLINE_MS) {
  const end = Date.now() + deadlineMs;
  for (;;) {
    const result = await check();
    if (result) return result;
    if (Date.now() > end) throw new Error(`not within ${deadlineMs} ms: ${what}`);
    await sleep(15);
  }
}

/** The promise, or an error naming `what` after the deadline. */
export function within(promise, what, deadlineMs = DEADLINE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${deadlineMs} ms: ${what}`)), deadlineMs);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** The first `event` of an emitter. */
export function once(emitter, event, deadlineMs = DEADLINE_MS) {
  return within(new Promise((resolve) => emitter.once(event, resolve)), `event "${event}"`, deadlineMs);
}

/** A port nobody listens on at the moment. */
export function freePort() {
  return new Promise((resolve, reject) => {
    const probe = net.createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

let counter = 0;
/** A channel of the namespace that no other test uses. */
export const channel = (namespace = 'chat') => `${namespace}:${process.pid}-${++counter}`;

/** [from, from + 1, … to] */
export const range = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
