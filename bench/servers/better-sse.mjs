// better-sse: a session per stream, in one channel that broadcasts.
import { createServer } from 'node:http';
import { createChannel, createSession } from 'better-sse';
import { serve } from './serve.mjs';

const channel = createChannel();
const http = createServer(async (request, response) => {
  channel.register(await createSession(request, response, { keepAlive: null }));
});

http.listen(0, '127.0.0.1', () => {
  serve(http.address().port, (data) => channel.broadcast(data, 'message'));
});
