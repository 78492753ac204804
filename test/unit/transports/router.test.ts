import { afterEach, describe, expect, it } from '@jest/globals';
import { ForbiddenException, UnauthorizedException } from '@nestjs/common';
import { once } from 'node:events';
import { WebSocket } from 'ws';
import type { Connection } from '../../../lib/hub/connection.js';
import type { UserIdentity } from '../../../lib/hub/identity.js';
import type { Authenticator } from '../../../lib/hub/ports/authenticator.js';
import { RefusalError } from '../../../lib/hub/ports/transport.js';
import { RealtimeException } from '../../../lib/protocol/errors.js';
import { sse } from '../../../lib/transports/sse.transport.js';
import { TestNode, TOKEN, tokens, type NodeOptions } from './support/node.js';
import { ask, askUpgrade, clientFrame, RawWire } from './support/wire.js';

const nodes: TestNode[] = [];
const wires: RawWire[] = [];

async function start(options?: NodeOptions): Promise<TestNode> {
  const node = await TestNode.start(options);
  nodes.push(node);
  return node;
}

async function upgrade(node: TestNode, path: string, headers?: Record<string, string>): Promise<string> {
  const wire = await RawWire.upgrade(node.port, path, headers);
  wires.push(wire);
  return (await wire.head()).split('\r\n', 1)[0]!;
}

const SWITCHING = 'HTTP/1.1 101 Switching Protocols';

/** What a browser's WebSocket sees of a connection that is closed at once. */
async function closeSeen(node: TestNode, protocols: string[] = []): Promise<{ frames: any[]; close: unknown[] }> {
  const peer = new WebSocket(`ws://${node.host}/realtime`, protocols);
  const frames: any[] = [];
  peer.on('message', (data) => frames.push(JSON.parse((data as Buffer).toString())));
  const [code, reason] = await once(peer, 'close');
  return { frames, close: [code, String(reason)] };
}

afterEach(async () => {
  for (const wire of wires.splice(0)) wire.socket.destroy();
  for (const node of nodes.splice(0)) await node.stop();
});

describe('RequestRouter: paths and methods', () => {
  it('asks for an upgrade where a plain request comes to the path', async () => {
    const node = await start();
    for (const path of ['/realtime', '/realtime/', '/realtime?x=1']) {
      const { status, headers, json } = await ask(node.port, path);
      expect([status, headers.upgrade, json.error.code]).toEqual([426, 'websocket', 'not_available']);
    }
  });

  it('answers a wrong method with 405 and Allow', async () => {
    const node = await start();
    for (const method of ['PUT', 'HEAD', 'DELETE']) {
      const answer = await ask(node.port, '/realtime/sse?channels=chat.a', { method });
      expect([answer.status, answer.headers.allow]).toEqual([405, 'GET, POST, OPTIONS']);
    }
    const answer = await ask(node.port, '/realtime', { method: 'POST' });
    expect([answer.status, answer.headers.allow]).toEqual([405, 'GET']);
  });

  it('leaves what is not ours to the application', async () => {
    const node = await start({ transports: [sse()], paths: ['/realtime', '/rooms/:id'] });
    for (const path of [
      '/',
      '/realtime',
      '/realtime/other',
      '/realtime/sse/x',
      '/realtimes/sse',
      '/rooms//sse',
      '/*',
    ]) {
      expect((await ask(node.port, path)).body).toBe('the application');
    }
    expect(await upgrade(node, '/realtime')).toBe('HTTP/1.1 404 Not Found');
  });

  it('leaves plain requests to the root of the server to the application', async () => {
    const node = await start({ paths: ['/'] });
    expect((await ask(node.port, '/')).body).toBe('the application');
    expect((await ask(node.port, '/sse')).status).toBe(400);
    expect(await upgrade(node, '/')).toBe(SWITCHING);
  });

  it('reads parameters of the path and the query; the more literal path wins', async () => {
    const node = await start({ paths: ['/rooms/:id', '/rooms'] });
    expect(await upgrade(node, '/rooms/caf%C3%A9%2F1/?a=1&a=2&b=%20')).toBe(SWITCHING);
    const [connection] = await node.connected();
    expect([connection!.params, connection!.query]).toEqual([{ id: 'café/1' }, { a: '1', b: ' ' }]);
    expect((await ask(node.port, '/rooms/sse')).status).toBe(400); // the stream of /rooms, without channels
    expect((await ask(node.port, '/rooms/%ff/sse')).json.error.code).toBe('invalid');
    const refused = await askUpgrade(node.port, '/rooms/%ff');
    expect([refused.status, refused.json.error.code]).toEqual([400, 'invalid']);
  });

  it.each([
    [426, { Upgrade: 'h2c' }],
    [426, { 'Sec-WebSocket-Version': '8' }],
    [400, { 'Sec-WebSocket-Key': 'short' }],
    [400, { 'Sec-WebSocket-Protocol': 'a,,b' }],
  ])('answers a bad opening handshake with %i: %j', async (status, headers) => {
    const node = await start();
    expect((await askUpgrade(node.port, '/realtime', headers)).status).toBe(status);
    expect(node.hub.connections.size).toBe(0);
  });

  it('refuses an upgrade at a path that has none', async () => {
    const node = await start();
    expect((await askUpgrade(node.port, '/realtime/sse')).status).toBe(400);
  });
});

describe('RequestRouter: the handshake', () => {
  it('refuses with draining until peers are let in', async () => {
    const node = await start({ accepting: false });
    const { status, headers, json } = await askUpgrade(node.port, '/realtime');
    expect([status, json.error.code]).toEqual([503, 'draining']);
    expect(Number(headers['retry-after'])).toBeGreaterThan(0);
    expect(headers).toMatchObject({ 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' });
  });

  it('refuses an origin of another host, and lets those pass that have none', async () => {
    const node = await start();
    const foreign = await askUpgrade(node.port, '/realtime', { Origin: 'https://evil.example' });
    expect([foreign.status, foreign.json.error.code]).toEqual([403, 'origin_refused']);
    expect(await upgrade(node, '/realtime', { Origin: `http://${node.host}` })).toBe(SWITCHING);
    expect(await upgrade(node, '/realtime')).toBe(SWITCHING);
  });

  it('answers wrong credentials with 401 and a challenge, and never repeats them', async () => {
    const node = await start({ auth: tokens });
    const cases: [Record<string, string>, string, string][] = [
      [{ Authorization: `Bearer ${TOKEN.bad}` }, 'unauthenticated', 'Bearer'],
      [{ Authorization: 'Bearer' }, 'unauthenticated', 'Bearer'],
      [{ Authorization: `bearer ${TOKEN.old}` }, 'token_expired', 'Bearer error="invalid_token"'],
      [{ 'Sec-WebSocket-Protocol': `bearer, ${TOKEN.bad}` }, 'unauthenticated', 'Bearer'],
    ];
    for (const [headers, code, challenge] of cases) {
      const answer = await askUpgrade(node.port, '/realtime', headers);
      expect([answer.status, answer.json.error.code, answer.headers['www-authenticate']]).toEqual([
        401,
        code,
        challenge,
      ]);
      expect(answer.body).not.toContain(TOKEN.bad);
    }
  });

  it('awaits the token in the first frame of a WebSocket that brings none; other wires are refused', async () => {
    const node = await start({ auth: tokens });
    const wire = await RawWire.upgrade(node.port, '/realtime');
    wires.push(wire);
    wire.socket.write(clientFrame('{"id":1,"event":"echo"}'));
    expect(JSON.parse((await wire.frame()).payload.toString()).error.code).toBe('unauthenticated');
    wire.socket.write(clientFrame(`{"id":2,"event":"$auth","data":{"token":"${TOKEN.ann}"}}`));
    expect(JSON.parse((await wire.frame()).payload.toString()).event).toBe('$connected');
    expect((await ask(node.port, '/realtime/sse?channels=chat.a')).status).toBe(401);
  });

  it('tells a failure of the authenticator as internal, logs it without the token, and lets the peer come back', async () => {
    const failing = (authenticate: Authenticator['authenticate']): Promise<TestNode> =>
      start({ auth: { ...tokens, name: 'remote', authenticate } });
    const node = await failing(({ token }) =>
      Promise.reject(new Error(`GET https://id.example/?token=${token}: timeout`)),
    );
    const headers = { Authorization: 'Bearer s3cret' };
    const refused = [
      await askUpgrade(node.port, '/realtime', headers),
      await ask(node.port, '/realtime/sse?channels=chat.a', { headers }),
    ];
    for (const { status, json } of refused) expect([status, json.error.code]).toEqual([500, 'internal']);
    const wire = await RawWire.upgrade(node.port, '/realtime');
    wires.push(wire);
    wire.socket.write(clientFrame('{"id":2,"event":"$auth","data":{"token":"s3cret"}}'));
    expect(JSON.parse((await wire.frame()).payload.toString())).toEqual({
      event: '$disconnect',
      data: { code: 4500, reason: 'internal', reconnect: true },
    });
    expect(node.errors.map((error) => (error as Error).message)).toEqual(
      Array(3).fill('The authenticator "remote" failed: GET https://id.example/?token=[token]: timeout'),
    );
    for (const error of node.errors) {
      expect((error as Error).stack).toContain('router.test.ts');
      expect((error as Error).stack).not.toContain('s3cret');
    }
    for (const wrong of [undefined, null, {}, { id: 7 }]) {
      const nobody = await failing(() => Promise.resolve(wrong as unknown as UserIdentity));
      expect((await askUpgrade(nobody.port, '/realtime', headers)).status).toBe(500);
      expect(nobody.errors).toHaveLength(1);
    }
  });

  it.each([
    [new UnauthorizedException('No such session'), 401, 'unauthenticated', 'No such session'],
    [new ForbiddenException(), 403, 'forbidden', 'Forbidden'],
  ])('lets the authenticator refuse by an exception of Nest: %s', async (exception, status, code, message) => {
    const authenticate = (): never => {
      throw exception;
    };
    const node = await start({ auth: { ...tokens, authenticate } });
    const answer = await askUpgrade(node.port, '/realtime', { Authorization: 'Bearer x' });
    expect([answer.status, answer.json.error]).toEqual([status, { code, message }]);
    expect(node.errors).toEqual([]);
  });

  it('refuses a WebSocket without a token where firstFrame is off', async () => {
    const node = await start({ auth: { ...tokens, firstFrame: false } });
    expect((await askUpgrade(node.port, '/realtime')).status).toBe(401);
  });

  it('ignores credentials where peers are anonymous, and still selects the subprotocol', async () => {
    const node = await start();
    const wire = await RawWire.upgrade(node.port, '/realtime', {
      'Sec-WebSocket-Protocol': `other, bearer, ${TOKEN.bob}`,
    });
    wires.push(wire);
    const head = await wire.head();
    expect(head).toContain('\r\nSec-WebSocket-Protocol: bearer\r\n');
    expect(head).not.toContain(TOKEN.bob);
    const [connection] = await node.connected();
    expect(connection!.user).toBeUndefined();
  });

  it('keeps the status, headers and body that a guard gives its refusal', async () => {
    const node = await start({
      application: {
        admit: () =>
          Promise.reject(
            new RefusalError({
              status: 418,
              error: { code: 'rejected', message: 'Tea', retryAfterMs: 1_200 },
              headers: { 'X-Tea': 'green', 'Content-Length': '1', 'X-Bad': 'a\r\nb' },
            }),
          ),
      },
    });
    for (const answer of [
      await askUpgrade(node.port, '/realtime'),
      await ask(node.port, '/realtime/sse?channels=chat.a'),
    ]) {
      expect([answer.status, answer.json]).toEqual([
        418,
        { error: { code: 'rejected', message: 'Tea', retryAfterMs: 1_200 } },
      ]);
      expect(answer.headers).toMatchObject({ 'x-tea': 'green', 'retry-after': '2' });
      expect(answer.headers).not.toHaveProperty('x-bad');
    }
  });

  it('forgets a refused connection, and tells what nobody expected as internal', async () => {
    const connections: Connection[] = [];
    const node = await start({
      application: {
        admit: (connection) => {
          connections.push(connection);
          return Promise.reject(new Error('the database password is 1234'));
        },
      },
    });
    const { status, body } = await askUpgrade(node.port, '/realtime');
    expect([status, body]).toEqual([500, '{"error":{"code":"internal","message":"Internal server error"}}']);
    expect(node.errors).toEqual([expect.objectContaining({ message: 'the database password is 1234' })]);
    expect(connections[0]!.readyState).toBe(3);
  });

  it('destroys upgrades in their handshake when it closes', async () => {
    let arrived: () => void = () => undefined;
    const admitted = new Promise<void>((resolve) => (arrived = resolve));
    const node = await start({
      application: {
        admit: () => {
          arrived();
          return new Promise(() => undefined);
        },
      },
    });
    const wire = await RawWire.upgrade(node.port, '/realtime');
    await admitted;
    node.router.close();
    await wire.ended;
  });

  it("accepts and closes with the code where rejectMode is 'close'", async () => {
    const node = await start({ auth: tokens, rejectMode: 'close' });
    expect(await closeSeen(node, ['bearer', TOKEN.old])).toEqual({
      frames: [{ event: '$disconnect', data: { code: 4401, reason: 'token_expired', reconnect: true } }],
      close: [4401, 'token_expired'],
    });
    const closed = await start({
      rejectMode: 'close',
      application: { admit: () => Promise.reject(new RealtimeException('rejected')) },
    });
    expect((await closeSeen(closed)).close).toEqual([4403, 'rejected']);
    const draining = await start({ rejectMode: 'close', accepting: false });
    const { frames, close } = await closeSeen(draining);
    expect(close).toEqual([4503, 'draining']);
    expect(frames[0].data).toEqual({ code: 4503, reason: 'draining', reconnect: true, delayMs: expect.any(Number) });
  });
});

describe('RequestRouter: CORS', () => {
  const PREFLIGHT = {
    'Access-Control-Request-Method': 'GET',
    'Access-Control-Request-Headers': 'authorization,last-event-id',
  };

  it('answers a preflight of an allowed origin, credentials included', async () => {
    const node = await start({ origins: ['https://app.example', /^https:\/\/\w+\.example\.org$/g] });
    for (const origin of ['https://app.example', 'https://a.example.org', 'https://b.example.org']) {
      const { status, headers } = await ask(node.port, '/realtime/sse', {
        method: 'OPTIONS',
        headers: { ...PREFLIGHT, Origin: origin },
      });
      expect(status).toBe(204);
      expect(headers).toMatchObject({
        'access-control-allow-origin': origin,
        'access-control-allow-credentials': 'true',
        'access-control-allow-methods': 'GET, POST',
        'access-control-allow-headers': 'authorization,last-event-id',
      });
      expect(headers.vary).toContain('Origin');
    }
  });

  it('answers a refused origin without CORS headers', async () => {
    const node = await start({ origins: ['https://app.example'] });
    for (const method of ['OPTIONS', 'GET']) {
      const headers = { ...PREFLIGHT, Origin: 'https://evil.example' };
      const answer = await ask(node.port, '/realtime/sse?channels=chat.a', { method, headers });
      expect([answer.status, answer.json.error.code]).toEqual([403, 'origin_refused']);
      expect(answer.headers).not.toHaveProperty('access-control-allow-origin');
    }
  });

  it('lets pages of an allowed origin read refusals', async () => {
    const node = await start({ origins: ['https://app.example'] });
    const headers = { Origin: 'https://app.example' };
    const answer = await ask(node.port, '/realtime/sse', { headers });
    expect(answer.status).toBe(400);
    expect(answer.headers).toMatchObject({ 'access-control-allow-origin': 'https://app.example', vary: 'Origin' });
  });

  it("allows all with '*', without credentials", async () => {
    const node = await start({ origins: '*' });
    const { headers } = await ask(node.port, '/realtime/sse', { headers: { Origin: 'https://any.example' } });
    expect(headers['access-control-allow-origin']).toBe('*');
    expect(headers).not.toHaveProperty('access-control-allow-credentials');
  });

  it('tells the methods to OPTIONS that is no preflight', async () => {
    const { status, headers } = await ask((await start()).port, '/realtime/sse', { method: 'OPTIONS' });
    expect([status, headers.allow]).toEqual([204, 'GET, POST, OPTIONS']);
  });
});
