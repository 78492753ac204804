// What Redis and a write per socket cost at least, on one of two nodes: ready frames in bare PUBLISH commands of
// ioredis, written to the sockets as they come. One command per turn, or with BENCH_EACH one per publication.
import { createServer } from 'node:http';
import { Redis } from 'ioredis';
import { WebSocketServer } from 'ws';
import { DATA, serve } from './serve.mjs';

const CHANNEL = process.env.BENCH_EACH ? 'each' : 'joined';
const publisher = new Redis(process.env.BENCH_REDIS_URL);
const subscriber = publisher.duplicate();

const sockets = new Set();
const http = createServer();
new WebSocketServer({ server: http }).on('connection', (_client, { socket }) => {
  sockets.add(socket);
  socket.once('close', () => sockets.delete(socket));
});

let received = [];
/** Writes what came in this turn. */
function write() {
  const frames = received.length === 1 ? received[0] : Buffer.concat(received);
  received = [];
  for (const socket of sockets) socket.write(frames);
}
subscriber.on('messageBuffer', (_channel, message) => {
  if (received.push(message) === 1) process.nextTick(write);
});

function encode(data) {
  const text = JSON.stringify({ channel: 'bench.one', event: 'message', data, offset: 10_000, tag: 'zzzzzzz' });
  return Buffer.concat([Buffer.from([0x81, 126, 0, text.length]), Buffer.from(text)]);
}

const ready = encode(DATA);
const joined = new Map();
let published = [];
/** Publishes what this turn made. */
function publish() {
  const frames = published;
  published = [];
  if (frames[0] !== ready) {
    publisher.publish(CHANNEL, Buffer.concat(frames));
    return;
  }
  if (!joined.has(frames.length)) joined.set(frames.length, Buffer.concat(frames));
  publisher.publish(CHANNEL, joined.get(frames.length));
}

await subscriber.subscribe(CHANNEL);
http.listen(0, '127.0.0.1', () => {
  serve(http.address().port, (data) => {
    const frame = data === DATA ? ready : encode(data);
    if (process.env.BENCH_EACH) publisher.publish(CHANNEL, frame);
    else if (published.push(frame) === 1) queueMicrotask(publish);
  });
});
