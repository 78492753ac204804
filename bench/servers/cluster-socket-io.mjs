// Socket.IO with state recovery and its Redis streams adapter, one of several nodes behind a proxy: at BENCH_PORT, and away
// after SIGTERM.
import { createServer } from 'node:http';
import { createAdapter } from '@socket.io/redis-streams-adapter';
import { Redis } from 'ioredis';
import { Server } from 'socket.io';
import { peakOf, serve } from './serve.mjs';

const { BENCH_PORT, BENCH_REDIS_URL } = process.env;

const http = createServer();
const io = new Server(http, {
  adapter: createAdapter(new Redis(BENCH_REDIS_URL)),
  transports: ['websocket'],
  serveClient: false,
  connectionStateRecovery: {},
});
let opened = 0;
io.on('connection', () => opened++);
process.once('SIGTERM', () => {
  io.close(() => process.exit(0));
});

http.listen(Number(BENCH_PORT), '127.0.0.1', () => {
  serve(http.address().port, (data) => io.emit('message', data), { peak: peakOf(() => opened) });
});
