import { afterEach, describe, expect, it } from '@jest/globals';
import {
  ConflictException,
  Inject,
  Injectable,
  Scope,
  SetMetadata,
  UnauthorizedException,
  UseGuards,
  type CanActivate,
  type ExecutionContext,
} from '@nestjs/common';
import { Reflector, REQUEST } from '@nestjs/core';
import { ConnectedSocket, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { of, type Observable } from 'rxjs';
import type { Connection } from '../../lib/hub/connection.js';
import { UserIdentity } from '../../lib/hub/identity.js';
import type { Authenticator } from '../../lib/hub/ports/authenticator.js';
import { RealtimeModule } from '../../lib/nest/realtime.module.js';
import { RealtimeException } from '../../lib/protocol/errors.js';
import { openStream, refusedStream } from './support/event-stream.js';
import { connect, open, refused } from './support/gateway-peer.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';
import { as, tokenOf, tokenUsers } from './support/token-users.js';

/** What guards and hooks saw. */
const trace: unknown[] = [];

@Injectable()
class Users {
  readonly known: Record<string, { id: number; roles: string[] }> = {
    ada: { id: 1, roles: ['admin'] },
    bob: { id: 2, roles: [] },
  };
}

/** What passport's AuthGuard does with its context: an http request and response, `request.user`, 401 by an exception. */
@Injectable()
class PassportLikeGuard implements CanActivate {
  constructor(private readonly users: Users) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    if (context.getType() !== 'http') throw new TypeError('only http');
    const request = context.switchToHttp().getRequest();
    const response = context.switchToHttp().getResponse();
    await Promise.resolve();
    const user = this.users.known[String(request.headers.authorization ?? request.cookies.user)];
    if (user === undefined) {
      response.setHeader('WWW-Authenticate', 'Bearer realm="rooms"');
      throw new UnauthorizedException();
    }
    request.user = user;
    return true;
  }
}

const Roles = (...roles: string[]) => SetMetadata('roles', roles);

@Injectable()
class RolesGuard implements CanActivate {
  constructor(@Inject(Reflector) private readonly reflector: Reflector) {}

  canActivate(context: ExecutionContext): Observable<boolean> {
    const roles = this.reflector.getAllAndOverride<string[]>('roles', [context.getHandler(), context.getClass()]);
    const { user } = context.switchToHttp().getRequest();
    return of(roles.every((role) => user.roles.includes(role)));
  }
}

@Injectable()
class ClassGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    trace.push(`class guard ${context.getType()}`);
    return true;
  }
}

@UseGuards(ClassGuard)
@WebSocketGateway()
class AdminGateway {
  @UseGuards(PassportLikeGuard, RolesGuard)
  @Roles('admin')
  handleConnection(client: Connection): void {
    trace.push(['connected', client.user]);
  }

  @SubscribeMessage('me')
  me(@ConnectedSocket() client: Connection): unknown {
    return { id: client.user?.id, claims: client.user?.claims, identity: client.user instanceof UserIdentity };
  }
}

@Injectable()
class LookingGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest();
    const client = context.switchToWs().getClient<Connection>();
    trace.push({
      ip: request.ip,
      query: request.query,
      params: request.params,
      cookies: { ...request.cookies },
      state: client.readyState,
      same: client.ip === request.ip,
      handler: context.getHandler().name,
    });
    if (request.query.status === '409') throw new ConflictException({ message: 'taken', by: 'Ada' });
    if (request.query.status === 'gone') throw new RealtimeException('revoked');
    if (request.query.status === 'broken') throw new Error('secret');
    return request.query.status !== 'no';
  }
}

/** Sets headers as guards of sessions and limits do, and lets those in who ask for it. */
@Injectable()
class HeaderGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const response = context.switchToHttp().getResponse();
    response.setHeader('Set-Cookie', ['session=1; Expires=Thu, 01 Jan 2032 00:00:00 GMT', 'second=2']);
    response.appendHeader('Set-Cookie', 'third=3');
    response.header('X-RateLimit-Limit', 10).set('Content-Length', 7).setHeader('Sec-WebSocket-Protocol', 'other');
    response.set('Vary', 'Cookie').setHeader('Content-Type', 'text/html');
    return context.switchToHttp().getRequest().query.in === 'yes';
  }
}

@Injectable()
class LimitGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    context.switchToHttp().getResponse().header('X-RateLimit-Remaining', '9');
    return true;
  }
}

@WebSocketGateway({ path: '/headers' })
class HeadersGateway {
  @UseGuards(HeaderGuard)
  handleConnection(): void {
    trace.push('connected');
  }
}

@Injectable({ scope: Scope.REQUEST })
class ScopedGuard implements CanActivate {
  constructor(@Inject(REQUEST) private readonly request: any) {}
  canActivate(): boolean {
    trace.push(['scoped', this.request.ip]);
    return true;
  }
}

@WebSocketGateway({ path: '/rooms/:id' })
class RoomsGateway {
  @UseGuards(new LookingGuard())
  handleConnection(): void {
    trace.push('connected');
  }
}

@WebSocketGateway({ path: '/scoped' })
class ScopedGuardGateway {
  @UseGuards(ScopedGuard)
  handleConnection(): void {
    trace.push('connected');
  }
}

/** The user of a token has one role, which is its name. */
const tokens: Authenticator = {
  name: 'tokens',
  anonymous: false,
  async authenticate(credentials) {
    const { id } = await tokenUsers.authenticate(credentials);
    return new UserIdentity(id, { roles: [id] });
  },
};

@Injectable()
class AdminIdentityGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const { user } = context.switchToHttp().getRequest<{ user: UserIdentity<{ roles: string[] }> }>();
    trace.push(['admit', user.id]);
    return user.claims.roles.includes('admin');
  }
}

describe.each(platforms)('guards of the handshake on $name', (platform) => {
  let running: RunningApp | undefined;

  const start = async (options: object, ...providers: any[]): Promise<RunningApp> => {
    trace.length = 0;
    const imports = [RealtimeModule.forRoot(options)];
    return (running = await startApp(platform, { imports, providers }, (app) => app.useLogger(false)));
  };

  afterEach(async () => {
    await running?.close();
    running = undefined;
  });

  it('on handleConnection let a peer in, and say who it is', async () => {
    const app = await start({}, AdminGateway, Users);
    const peer = await connect(app, '/realtime', { headers: { authorization: 'ada' } });
    expect(trace).toEqual([['connected', expect.objectContaining({ id: '1' })]]);
    expect(await peer.request('me', 0, 1)).toEqual({
      id: 1,
      data: { id: '1', claims: { id: 1, roles: ['admin'] }, identity: true },
    });
    expect(trace[1]).toBe('class guard ws');
  });

  it('refuse the upgrade with the status of their exception, and their headers', async () => {
    const app = await start({}, AdminGateway, Users);
    const { status, headers, body } = await refused(app);
    expect(status).toBe(401);
    expect(headers['www-authenticate']).toBe('Bearer realm="rooms"');
    expect(body).toEqual({ error: { code: 'unauthenticated', message: 'Unauthorized' } });
    expect(trace).toEqual([]);
  });

  it('refuse with 403 by saying no', async () => {
    const app = await start({}, AdminGateway, Users);
    expect(await refused(app, '/realtime', { headers: { cookie: 'a=1; user=bob' } })).toMatchObject({
      status: 403,
      body: { error: { code: 'forbidden', message: 'Not allowed' } },
    });
    expect(trace).toEqual([]);
  });

  it('see the request as HTTP handlers do', async () => {
    const app = await start({}, RoomsGateway);
    await connect(app, '/rooms/5?a=b', { headers: { cookie: 'x=%20y; z="q"' } });
    expect(trace).toEqual([
      {
        ip: '127.0.0.1',
        query: { a: 'b' },
        params: { id: '5' },
        cookies: { x: ' y', z: 'q' },
        state: 0,
        same: true,
        handler: 'handleConnection',
      },
      'connected',
    ]);
  });

  it.each([
    ['409', 409, { code: 'rejected', message: 'taken', details: { status: 409, by: 'Ada' } }],
    ['gone', 401, { code: 'revoked', message: 'The credentials were revoked' }],
    ['broken', 500, { code: 'internal', message: 'Internal server error' }],
    ['no', 403, { code: 'forbidden', message: 'Not allowed' }],
  ])('answer %s with %i', async (query, status, error) => {
    const app = await start({}, RoomsGateway);
    expect(await refused(app, `/rooms/5?status=${query}`)).toMatchObject({ status, body: { error } });
    expect(trace).not.toContain('connected');
  });

  const COOKIES = ['session=1; Expires=Thu, 01 Jan 2032 00:00:00 GMT', 'second=2', 'third=3'];

  it('refuse with every cookie as a header of its own, and with what guards before them set', async () => {
    const app = await start({ connectionGuards: [LimitGuard], channels: { news: {} } }, HeadersGateway);
    for (const { status, headers, body } of [
      await refused(app, '/headers'),
      await refusedStream(`${app.url}/headers/sse?channels=news`),
    ]) {
      expect(status).toBe(403);
      expect(headers['set-cookie']).toEqual(COOKIES);
      expect(headers).toMatchObject({ 'x-ratelimit-limit': '10', 'x-ratelimit-remaining': '9' });
      expect(headers['content-type']).toBe('application/json; charset=utf-8');
      expect(body).toEqual({ error: { code: 'forbidden', message: 'Not allowed' } });
    }
  });

  it('accept with the headers that they set, but none that frame the response', async () => {
    const app = await start({ connectionGuards: [LimitGuard], channels: { news: {} } }, HeadersGateway);
    const peer = open(app.port, '/headers?in=yes');
    const [upgrade] = (await once(peer.socket, 'upgrade')) as [IncomingMessage];
    expect(upgrade.headers).toMatchObject({ 'x-ratelimit-limit': '10', 'x-ratelimit-remaining': '9' });
    expect(upgrade.headers['set-cookie']).toEqual(COOKIES);
    for (const name of ['content-length', 'content-type', 'sec-websocket-protocol']) {
      expect(upgrade.headers).not.toHaveProperty(name);
    }
    expect(await peer.next()).toMatchObject({ event: '$connected' });

    const stream = await openStream(`${app.url}/headers/sse?in=yes&channels=news`);
    expect(stream.headers).toMatchObject({ 'x-ratelimit-limit': '10', 'x-ratelimit-remaining': '9' });
    expect(stream.headers['set-cookie']).toEqual(COOKIES);
    expect(stream.headers['content-type']).toMatch(/^text\/event-stream/);
    expect(stream.headers.vary).toContain('Origin');
    expect(await stream.event('$open')).toBeDefined();
    stream.close();

    const unguarded = open(app.port, '/realtime');
    const [plain] = (await once(unguarded.socket, 'upgrade')) as [IncomingMessage];
    expect(plain.headers).toMatchObject({ 'x-ratelimit-remaining': '9' });
    expect(plain.headers).not.toHaveProperty('set-cookie');
  });

  it('may be request-scoped', async () => {
    const app = await start({}, ScopedGuardGateway);
    await connect(app, '/scoped');
    expect(trace).toEqual([['scoped', '127.0.0.1'], 'connected']);
  });

  it.each([
    ['an instance', () => new LookingGuard(), []],
    ['a class of no module', () => LookingGuard, []],
    ['a provider', () => LookingGuard, [LookingGuard]],
  ])('of connectionGuards run for every endpoint: %s', async (_name, guard, providers) => {
    const app = await start({ connectionGuards: [guard()] }, ScopedGuardGateway, ...providers);
    expect(await refused(app, '/scoped?status=no')).toMatchObject({ status: 403 });
    await connect(app, '/realtime');
    expect(trace).toHaveLength(2);
  });

  it('of connectionGuards may be request-scoped', async () => {
    const app = await start({ connectionGuards: [ScopedGuard] }, ScopedGuard);
    await connect(app);
    await connect(app);
    expect(trace).toEqual([1, 2].map(() => ['scoped', '127.0.0.1']));
  });

  it('run with the identity of a token', async () => {
    const app = await start({ auth: tokens, connectionGuards: [AdminIdentityGuard] });
    await connect(app, '/realtime', as('admin'));
    expect(await refused(app, '/realtime', as('bob'))).toMatchObject({
      status: 403,
    });
    expect(trace).toEqual([
      ['admit', 'admin'],
      ['admit', 'bob'],
    ]);
  });

  it('run once the token came in the first frame', async () => {
    const app = await start({ auth: tokens, connectionGuards: [AdminIdentityGuard] });
    const admin = open(app.port);
    admin.socket.once('open', () => admin.send({ id: 1, event: '$auth', data: { token: tokenOf('admin') } }));
    expect(await admin.next()).toMatchObject({ event: '$connected', data: { user: { id: 'admin' } } });
    const bob = open(app.port);
    bob.socket.once('open', () => bob.send({ id: 1, event: '$auth', data: { token: tokenOf('bob') } }));
    expect(await bob.closed).toEqual({ code: 4403, reason: 'forbidden' });
    expect(trace).toEqual([
      ['admit', 'admin'],
      ['admit', 'bob'],
    ]);
  });
});
