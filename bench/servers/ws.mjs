// Plain ws: a send per socket and publication, as its own documentation broadcasts.
import { createServer } from 'node:http';
import { WebSocket, WebSocketServer } from 'ws';
import { serve } from './serve.mjs';

const http = createServer();
const server = new WebSocketServer({ server: http });

server.on('connection', (client) => {
  client.on('message', (message) => {
    const { id, data } = JSON.parse(message.toString());
    client.send(JSON.stringify({ id, data }));
  });
});

http.listen(0, '127.0.0.1', () => {
  const publishOne = (data) => {
    const frame = JSON.stringify({ event: 'message', data });
    for (const client of server.clients) if (client.readyState === WebSocket.OPEN) client.send(frame);
  };
  serve(http.address().port, publishOne, { connections: () => server.clients.size });
});
