// Socket.IO with @socket.io/redis-adapter, one of two nodes: its WebSocket transport alone, a room as the channel.
import { createServer } from 'node:http';
import { createAdapter } from '@socket.io/redis-adapter';
import { Redis } from 'ioredis';
import { Server } from 'socket.io';
import { serve } from './serve.mjs';

const publisher = new Redis(process.env.BENCH_REDIS_URL);
const subscriber = publisher.duplicate();
for (const redis of [publisher, subscriber]) {
  redis.on('error', (error) => {
    throw error;
  });
}

const http = createServer();
const io = new Server(http, {
  adapter: createAdapter(publisher, subscriber),
  transports: ['websocket'],
  serveClient: false,
  pingInterval: 600_000,
});
io.on('connection', (socket) => socket.join('bench.one'));

await subscriber.ping();
http.listen(0, '127.0.0.1', () => {
  serve(http.address().port, (data) => io.to('bench.one').emit('message', data));
});
