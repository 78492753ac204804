import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { listenToUpgrades, stepInFront, type Routes } from '../../../lib/nest/http-mount.js';

const H2C = 'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n';
const WEBSOCKET = 'Connection: Upgrade\r\nUpgrade: websocket\r\n';

/** Serves `/ours`. */
const routes: Routes = {
  handleRequest(request, response) {
    if (request.url !== '/ours') return false;
    response.end('ours');
    return true;
  },
  handleUpgrade(request, socket) {
    if (request.url !== '/ours') return false;
    socket.end('HTTP/1.1 101 Switching Protocols\r\n\r\n');
    return true;
  },
};

let server: Server;
let unmount: () => void;
const clients: Socket[] = [];
const accepted = new Set<Socket>();

beforeEach(async () => {
  server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => (body += String(chunk)));
    request.on('end', () => response.end(`the application: ${request.method!} ${request.url!} ${body}`));
  });
  server.on('connection', (socket) => {
    accepted.add(socket);
    socket.once('close', () => accepted.delete(socket));
  });
  const stops = [stepInFront(server, routes), listenToUpgrades(server, routes)];
  unmount = () => stops.forEach((stop) => stop());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  for (const socket of accepted) socket.destroy();
  server.close();
  await once(server, 'close');
});

/** A bare client, which does not close by itself. */
function open(): { socket: Socket; text: () => string; until: (part: string) => Promise<void> } {
  const { port } = server.address() as AddressInfo;
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  clients.push(socket);
  let text = '';
  let wake: () => void = () => undefined;
  socket.on('error', () => undefined);
  socket.on('data', (chunk) => {
    text += String(chunk);
    wake();
  });
  socket.on('close', () => wake());
  return {
    socket,
    text: () => text,
    async until(part) {
      while (!text.includes(part)) {
        if (socket.destroyed) throw new Error(`The connection ended after: ${text}`);
        await new Promise<void>((resolve) => (wake = resolve));
      }
    },
  };
}

function head(method: string, path: string, headers: string): string {
  return `${method} ${path} HTTP/1.1\r\nHost: a\r\n${headers}\r\n`;
}

describe('listenToUpgrades()', () => {
  it('answers an upgrade that nobody takes with 404, and destroys the socket, whatever the peer does', async () => {
    const { socket, until } = open();
    socket.write(head('GET', '/other', WEBSOCKET));
    await until('404 Not Found');
    await until('"code":"not_available"');
    socket.write('more');
    expect(accepted.size).toBe(1);
    const [held] = accepted;
    await once(held!, 'close');
  });

  it('leaves upgrades to other listeners', async () => {
    server.on('upgrade', (_request, socket) => socket.end('HTTP/1.1 101 Theirs\r\n\r\n'));
    for (const offer of [H2C, WEBSOCKET]) {
      const { socket, until } = open();
      socket.write(head('GET', '/other', offer));
      await until('101 Theirs');
    }
  });

  it('serves a plain request that offers another protocol, the next one on its connection too', async () => {
    const { socket, text, until } = open();
    for (const [n, path] of ['/1', '/2', '/ours'].entries()) {
      socket.write(head('GET', path, n === 1 ? '' : H2C));
      await until(path === '/ours' ? '\r\n\r\nours' : `the application: GET ${path}`);
    }
    expect(text().match(/HTTP\/1\.1 200 OK/g)).toHaveLength(3);
  });

  it('keeps the body of such a request, however it comes', async () => {
    const { socket, until } = open();
    socket.write(head('POST', '/1', `Content-Length: 5\r\n${H2C}`) + 'first');
    await until('the application: POST /1 first');
    socket.write(head('POST', '/2', `Content-Length: 6\r\n${H2C}`) + 'sec');
    await new Promise(setImmediate);
    socket.write('ond');
    await until('the application: POST /2 second');
    socket.write(head('POST', '/3', `Transfer-Encoding: chunked\r\n${H2C}`) + '5\r\nthird\r\n0\r\n\r\n');
    await until('the application: POST /3 third');
  });

  it('takes WebSocket upgrades of the endpoints', async () => {
    const { socket, until } = open();
    socket.write(head('GET', '/ours', WEBSOCKET));
    await until('101 Switching Protocols');
  });

  it('leaves the server as it was', async () => {
    unmount();
    const { socket, until } = open();
    socket.write(head('GET', '/ours', WEBSOCKET));
    await until('the application: GET /ours');
    expect([server.listenerCount('upgrade'), server.listenerCount('request')]).toEqual([0, 1]);
  });
});
