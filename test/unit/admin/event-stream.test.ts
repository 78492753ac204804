import { once } from 'node:events';
import { createServer, get, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { EventStream } from '../../../lib/admin/event-stream.js';

describe('a stream of the page', () => {
  let server: Server;
  let stream: EventStream;
  let ended: number;
  let response: IncomingMessage;

  beforeEach(async () => {
    ended = 0;
    server = createServer((request, answer) => {
      const exchange = { request, response: answer, query: new URLSearchParams(), refuse: () => undefined };
      stream = new EventStream(exchange, () => ended++);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const request = get({ port: (server.address() as AddressInfo).port, host: '127.0.0.1' });
    request.on('error', () => undefined);
    [response] = (await once(request, 'response')) as [IncomingMessage];
    response.on('error', () => undefined);
  });

  afterEach(async () => {
    response.destroy();
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });

  it('has each event on two lines, and ends once', async () => {
    stream.send('node', '{"a":1}');
    stream.beat();
    stream.end();
    stream.send('late', '{}');
    stream.end();
    let text = '';
    for await (const chunk of response) text += String(chunk);
    expect(text).toBe('retry: 1000\n\nevent: node\ndata: {"a":1}\n\n:\n\n');
    expect(ended).toBe(1);
  });

  it('is cut where its peer does not read, before much waits for it', async () => {
    response.pause();
    const data = JSON.stringify('x'.repeat(64 * 1024));
    let sent = 0;
    while (ended === 0 && sent < 1_000) {
      stream.send('node', data);
      sent++;
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(ended).toBe(1);
    expect(sent).toBeLessThan(1_000);
  });

  it('keeps back what is offered while its peer does not read, the newest of each key, and is not cut', async () => {
    response.pause();
    const large = 'x'.repeat(32 * 1024);
    let made = 0;
    const offer = (key: string, n: number): void => {
      stream.offer(key, 'node', () => {
        made++;
        return JSON.stringify({ key, n, large });
      });
    };
    for (let round = 0; round < 3; round++) {
      for (let node = 0; node < 300; node++) offer(`node ${node}`, round);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(ended).toBe(0);
    expect(made).toBeLessThan(700); // what sockets took, and the rest is not even made

    let text = '';
    response.on('data', (chunk) => (text += String(chunk)));
    response.resume();
    const all = () => text.split('\n\n').filter((block) => block.includes('event: node') && block.endsWith('}'));
    const newest = () =>
      new Map(
        all()
          .map((block) => JSON.parse(block.split('data: ')[1]!))
          .map(({ key, n }) => [key, n]),
      );
    while (newest().size < 300 || [...newest().values()].some((n) => n !== 2)) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(ended).toBe(0);
    expect(made).toBe(all().length);
    expect(made).toBeLessThan(900);
  });

  it('ends with its peer', async () => {
    response.destroy();
    while (ended === 0) await new Promise((resolve) => setImmediate(resolve));
    expect(ended).toBe(1);
  });
});
