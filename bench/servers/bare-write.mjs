// What a write per socket and turn costs at least: nothing is encoded, no client is asked, all get one ready buffer.
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { DATA, serve } from './serve.mjs';

const sockets = new Set();
const http = createServer();
new WebSocketServer({ server: http }).on('connection', (_client, { socket }) => {
  sockets.add(socket);
  socket.once('close', () => sockets.delete(socket));
});

const text = JSON.stringify({ channel: 'bench.one', event: 'message', data: DATA, offset: 10_000, tag: 'zzzzzzz' });
const frame = Buffer.concat([Buffer.from([0x81, 126, 0, text.length]), Buffer.from(text)]);
const buffers = new Map();
let published = 0;

/** Writes what this turn published. */
function write() {
  const count = published;
  published = 0;
  if (!buffers.has(count)) buffers.set(count, Buffer.concat(Array.from({ length: count }, () => frame)));
  for (const socket of sockets) socket.write(buffers.get(count));
}

http.listen(0, '127.0.0.1', () => {
  serve(http.address().port, () => {
    if (published++ === 0) queueMicrotask(write);
  });
});
