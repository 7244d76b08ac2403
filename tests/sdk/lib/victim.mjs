// A process to be killed: connects so many sockets to a channel, leaves each in the middle of a frame, says "ready".
// Arguments: port, channel, number of sockets.

import { dialUpgraded, frame } from './raw.mjs';

const [port, channel, count] = process.argv.slice(2);
const commands = `{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"${channel}"}}`;
for (let i = 0; i < Number(count); i += 1) {
  const socket = await dialUpgraded(Number(port), commands, '"id":2');
  const half = frame(`{"id":3,"publish":{"channel":"${channel}","data":"${'x'.repeat(500)}"}}`);
  socket.write(half.subarray(0, 5 + i * 20));
}
process.stdout.write('ready\n');
setInterval(() => {}, 1_000);
