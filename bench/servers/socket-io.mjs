// Socket.IO, its WebSocket transport alone.
import { createServer } from 'node:http';
import { Server } from 'socket.io';
import { serve } from './serve.mjs';

const http = createServer();
const io = new Server(http, {
  transports: ['websocket'],
  serveClient: false,
  pingInterval: 600_000,
  ...(process.env.BENCH_RECOVERY ? { connectionStateRecovery: {} } : {}),
});

http.listen(0, '127.0.0.1', () => serve(http.address().port, (data) => io.emit('message', data)));
