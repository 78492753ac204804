import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { connect, createServer, type ClientHttp2Session, type ClientHttp2Stream, type Http2Server } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { anonymous } from '../../../lib/hub/ports/authenticator.js';
import { secret } from '../../support/secrets.js';
import { TestNode } from './support/node.js';

let node: TestNode;
let server: Http2Server;
let session: ClientHttp2Session;
const warnings: Error[] = [];
const warn = (warning: Error): void => void warnings.push(warning);

beforeEach(async () => {
  node = await TestNode.start({ auth: { ...anonymous(), query: 'access_token' } });
  server = createServer((request, response) => {
    const ours = node.router.handleRequest(
      request as unknown as IncomingMessage,
      response as unknown as ServerResponse,
    );
    if (!ours) response.end('the application');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  process.on('warning', warn);
});

afterEach(async () => {
  session.destroy();
  await node.stop();
  server.close();
  await once(server, 'close');
  process.off('warning', warn);
});

async function get(
  path: string,
): Promise<{ status: number; stream: ClientHttp2Stream; until(text: string): Promise<string> }> {
  const stream = session.request({ ':path': path, accept: 'text/event-stream' });
  stream.setEncoding('utf8');
  let body = '';
  let wake: () => void = () => undefined;
  stream.on('data', (text: string) => {
    body += text;
    wake();
  });
  stream.on('close', () => wake());
  const [headers] = await once(stream, 'response');
  return {
    status: headers[':status'],
    stream,
    async until(text) {
      while (!body.includes(text)) {
        if (stream.destroyed) throw new Error(`The stream ended after: ${body}`);
        await new Promise<void>((resolve) => (wake = resolve));
      }
      return body;
    },
  };
}

describe('sse() over HTTP/2', () => {
  it('keeps no token of the query, in the headers either', async () => {
    const token = secret('token-over-http2');
    const { until, stream } = await get(`/realtime/sse?access_token=${token}&channels=chat.a`);
    await until('$open');
    const [connection] = await node.connected();
    expect(connection!.headers[':path']).toBe('/realtime/sse?channels=chat.a');
    expect(connection!.query).toEqual({ channels: 'chat.a' });
    stream.close();
  });

  it('streams, ends in order, and ends when the peer goes, without forbidden headers', async () => {
    const { status, until, stream } = await get('/realtime/sse?channels=chat.a');
    expect(status).toBe(200);
    await until('$open');
    const position = await node.publish('chat.a', 'message', 1);
    await until(`event: message\nid: 1~0:${position}\ndata: 1\n\n`);
    const [connection] = await node.connected();
    connection!.close(4403, 'forbidden');
    await until('event: $disconnect');
    await once(stream, 'close');
    const other = await get('/realtime/sse?channels=chat.a');
    await other.until('$open');
    const [, second] = await node.connected(2);
    const closed = new Promise((resolve) => second!.on('close', resolve));
    other.stream.close();
    expect(await closed).toBe(1006);
    expect([warnings, node.errors]).toEqual([[], []]);
  });

  it('refuses with a status and leaves other paths to the application', async () => {
    const refused = await get('/realtime/sse?channels=other');
    expect(refused.status).toBe(404);
    await refused.until('unknown_channel');
    await (await get('/other')).until('the application');
    expect(warnings).toEqual([]);
  });

  it('goes on where a slow peer reads again', async () => {
    const { until, stream } = await get('/realtime/sse?channels=chat.a');
    await until('$open');
    stream.pause();
    for (let i = 0; i < 20; i++) await node.publish('chat.a', 'message', `${'z'.repeat(32_000)}${i}`);
    stream.resume();
    await until('zz19"');
  });
});
