import { afterEach, describe, expect, it } from '@jest/globals';
import { ForbiddenException, Injectable, Module, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { WebSocketGateway, type OnGatewayConnection } from '@nestjs/websockets';
import type { IncomingMessage } from 'node:http';
import {
  memoryBroker,
  RealtimeModule,
  RealtimeService,
  UserIdentity,
  type Authenticator,
  type Broker,
  type Connection,
  type RealtimeModuleOptions,
} from '../../lib/index.js';
import { redisBroker } from '../../lib/redis.js';
import { RedisServer } from '../support/redis-server.js';
import { secret } from '../support/secrets.js';
import { openStream, refusedStream } from './support/event-stream.js';
import { connect, refused, type Peer } from './support/gateway-peer.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';
import { as, tokenOf } from './support/token-users.js';

const EXPIRES_AT = Date.now() + 3_600_000;

/** Users with claims and an end. The cookie `session` holds a token as well. */
const auth: Authenticator = {
  cookie: 'session',
  authenticate: async ({ token }) => {
    const id = token.slice('token-of-'.length);
    return new UserIdentity(id, { jti: `of-${id}`, roles: ['reader'] }, EXPIRES_AT, ['news']);
  },
};

@Injectable()
class BannedGuard implements CanActivate {
  static seen: string[] = [];

  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<IncomingMessage & { user?: { id: string } }>();
    BannedGuard.seen.push(request.url!);
    if (request.user?.id === 'eve') throw new ForbiddenException();
    return true;
  }
}

@WebSocketGateway()
class WatchedGateway implements OnGatewayConnection<Connection> {
  readonly connections: Connection[] = [];

  handleConnection(connection: Connection): void {
    this.connections.push(connection);
  }
}

interface Node extends RunningApp {
  readonly realtime: RealtimeService;
  readonly gateway: WatchedGateway;
}

interface Issued {
  readonly status: number;
  readonly headers: Headers;
  readonly body: { ticket: string; expiresAt: number; error?: { code: string } };
}

describe.each(platforms)('tickets on $name', (platform) => {
  let dispose: (() => Promise<unknown> | void)[] = [];
  afterEach(async () => {
    for (const end of dispose.reverse()) await end();
    dispose = [];
    BannedGuard.seen = [];
  });

  async function start(options: RealtimeModuleOptions = {}): Promise<Node> {
    const defaults = { auth, connectionGuards: [BannedGuard], channels: { news: {} } };
    const running = await startApp(platform, {
      imports: [RealtimeModule.forRoot({ ...defaults, ...options })],
      providers: [WatchedGateway, BannedGuard],
    });
    dispose.push(running.close);
    return { ...running, realtime: running.app.get(RealtimeService), gateway: running.app.get(WatchedGateway) };
  }

  async function ask(node: Node, headers: Record<string, string> = {}, query = '', method = 'POST'): Promise<Issued> {
    const answer = await fetch(`${node.url}/realtime/ticket${query}`, { method, headers });
    const text = await answer.text();
    let body: any = text;
    if (answer.headers.get('content-type')?.startsWith('application/json')) body = JSON.parse(text);
    if (typeof body.ticket === 'string') secret(body.ticket, { told: true });
    return { status: answer.status, headers: answer.headers, body };
  }

  const bearer = (user: string): Record<string, string> => ({ Authorization: `Bearer ${tokenOf(user)}` });
  const ticketOf = async (node: Node, user = 'ada'): Promise<string> => (await ask(node, bearer(user))).body.ticket;
  const enter = (node: Node, ticket: string): Promise<Peer> => connect(node, `/realtime?ticket=${ticket}`);
  const streamOf = ({ url }: Node, ticket: string): string => `${url}/realtime/sse?channels=news&ticket=${ticket}`;

  async function expectRefused(node: Node, ticket: string): Promise<void> {
    const upgrade = await refused(node, `/realtime?ticket=${ticket}`);
    expect([upgrade.status, upgrade.body.error.code]).toEqual([401, 'unauthenticated']);
    const stream = await refusedStream(streamOf(node, ticket));
    expect([stream.status, stream.body.error.code]).toEqual([401, 'unauthenticated']);
  }

  async function redisNodes(): Promise<[RedisServer, Node, Node]> {
    const redis = await RedisServer.start();
    dispose.push(() => redis.dispose());
    const broker = (): Broker => redisBroker({ url: redis.url });
    return [redis, await start({ broker: broker() }), await start({ broker: broker() })];
  }

  it('let one peer in, on any node, as who asked for them', async () => {
    const [redis, one, two] = await redisNodes();
    const before = Date.now();
    const { status, headers, body } = await ask(one, bearer('ada'));
    expect([status, headers.get('cache-control'), headers.get('content-type')]).toEqual([
      200,
      'no-store',
      'application/json; charset=utf-8',
    ]);
    expect(Object.keys(body)).toEqual(['ticket', 'expiresAt']);
    expect(body.ticket).toMatch(/^[\w-]{43}$/);
    expect(body.expiresAt - before).toBeGreaterThanOrEqual(30_000);
    expect(await redis.send('KEYS', '*')).not.toContain(body.ticket);
    const peer = await enter(two, body.ticket);
    const [{ user }] = two.gateway.connections as [Connection];
    expect(user).toEqual(new UserIdentity('ada', { jti: 'of-ada', roles: ['reader'] }, EXPIRES_AT, ['news']));
    await expectRefused(one, body.ticket);
    await expectRefused(two, body.ticket);
    const stream = await openStream(streamOf(two, await ticketOf(one)));
    expect(JSON.parse((await stream.event('$open')).data!)).toMatchObject({ channels: { news: {} } });
    expect(await one.realtime.connections()).toHaveLength(2);
    stream.close();
    await peer.close();
    expect(one.gateway.connections).toEqual([]); // asking for one is no connection
  });

  it('are issued for what the handshake takes, and for nothing else', async () => {
    const node = await start();
    const codes = async (...args: Parameters<typeof ask>): Promise<unknown[]> => {
      const { status, body } = await ask(...args);
      return [status, body.error?.code];
    };
    expect(await codes(node)).toEqual([401, 'unauthenticated']);
    expect(await codes(node, bearer('eve'))).toEqual([403, 'forbidden']);
    expect(await codes(node, { ...bearer('ada'), Origin: 'http://elsewhere.example' })).toEqual([
      403,
      'origin_refused',
    ]);
    expect(await codes(node, { Cookie: `session=${tokenOf('ada')}` })).toEqual([200, undefined]);
    expect(await codes(node, {}, `?ticket=${await ticketOf(node)}`)).toEqual([401, 'unauthenticated']);
    const get = await ask(node, bearer('ada'), '', 'GET');
    expect([get.status, get.headers.get('allow')]).toEqual([405, 'POST, OPTIONS']);
    expect(await node.realtime.connections()).toEqual([]);
  });

  it('are issued to pages of the origins that may connect', async () => {
    const node = await start({ origins: ['http://page.example'] });
    const origin = { Origin: 'http://page.example' };
    const preflight = await ask(node, { ...origin, 'Access-Control-Request-Method': 'POST' }, '', 'OPTIONS');
    expect([preflight.status, preflight.headers.get('access-control-allow-methods')]).toEqual([204, 'POST']);
    const { status, headers } = await ask(node, { ...origin, ...bearer('ada') });
    expect([status, headers.get('access-control-allow-origin')]).toEqual([200, 'http://page.example']);
  });

  it('are seen by no guard and no hook', async () => {
    const node = await start();
    const peer = await connect(node, `/realtime?a=1&ticket=${await ticketOf(node)}&b=2`);
    const [connection] = node.gateway.connections as [Connection];
    expect(connection.query).toEqual({ a: '1', b: '2' });
    expect(BannedGuard.seen).toEqual(['/realtime/ticket', '/realtime?a=1&b=2']);
    await peer.close();
  });

  it('let in nobody who was revoked meanwhile, or whose credentials have ended', async () => {
    const node = await start();
    const ticket = await ticketOf(node);
    await node.realtime.revokeToken('of-ada');
    const revoked = await refused(node, `/realtime?ticket=${ticket}`);
    expect([revoked.status, revoked.body.error.code]).toEqual([401, 'revoked']);
    const over = await node.realtime.issueTicket(new UserIdentity('bob', {}, Date.now() - 1));
    const expired = await refused(node, `/realtime?ticket=${secret(over)}`);
    expect([expired.status, expired.body.error.code]).toEqual([401, 'token_expired']);
  });

  it('count before a cookie, and do not fall back to it', async () => {
    const node = await start();
    const headers = { Cookie: `session=${tokenOf('ada')}` };
    const peer = await connect(node, `/realtime?ticket=${await ticketOf(node, 'bob')}`, { headers });
    expect((await node.realtime.connections()).map(({ userId }) => userId)).toEqual(['bob']);
    expect((await refused(node, `/realtime?ticket=${'A'.repeat(43)}`, { headers })).status).toBe(401);
    await peer.close();
  });

  it('are issued by the application too, a worker included', async () => {
    const broker = memoryBroker();
    const node = await start({ broker });
    @Module({ imports: [RealtimeModule.forRoot({ broker, transports: [] })] })
    class WorkerModule {}
    const worker = await NestFactory.createApplicationContext(WorkerModule, { logger: false });
    dispose.push(() => worker.close());
    const service = worker.get(RealtimeService);
    const peer = await enter(node, secret(await service.issueTicket(new UserIdentity('carol'))));
    expect(await node.realtime.connections({ userId: 'carol' })).toHaveLength(1);
    await expect(service.issueTicket({} as UserIdentity)).rejects.toMatchObject({ code: 'invalid' });
    await peer.close();
  });

  it('are not there where peers are anonymous', async () => {
    const node = await start({ auth: { anonymous: true, authenticate: () => Promise.reject(new Error('never')) } });
    expect((await ask(node)).status).toBe(404);
    const peer = await connect(node, '/realtime?ticket=mine', as('ada'));
    expect(node.gateway.connections[0]!.query).toEqual({ ticket: 'mine' });
    await peer.close();
  });
});
