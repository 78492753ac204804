import { afterEach, describe, expect, it, jest } from '@jest/globals';
import { Inject, Injectable, UseGuards } from '@nestjs/common';
import { ConnectedSocket, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { RealtimeModule, type Connection, type RealtimeModuleOptions } from '../../lib/index.js';
import { JwtConnectionGuard } from '../../lib/jwt.js';
import { forge, KEYS, SECRET, seconds, sign } from '../support/jwt.js';
import { WatchedLogger } from '../support/watched-logger.js';
import { ChannelPeer } from './support/channel-peer.js';
import { openStream, refusedStream } from './support/event-stream.js';
import { connect, refused } from './support/gateway-peer.js';
import { KeyServer } from './support/key-server.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';

const bearer = (token: string): Record<string, string> => ({ Authorization: `Bearer ${token}` });

const guard = new JwtConnectionGuard({ secret: SECRET, cookie: 'session' });

@WebSocketGateway({ path: '/staff' })
class StaffGateway {
  @UseGuards(guard)
  handleConnection(): void {}

  @UseGuards(guard)
  @SubscribeMessage('me')
  me(@ConnectedSocket() { user }: Connection): unknown {
    return { id: user?.id, channels: user?.channels, expires: user?.expiresAt !== undefined };
  }
}

@WebSocketGateway({ path: '/open' })
class OpenGateway {
  @UseGuards(guard)
  @SubscribeMessage('me')
  me(): string {
    return 'somebody';
  }
}

/** What an application's configuration is. */
@Injectable()
class Config {
  readonly secret = SECRET;
}

@Injectable()
class ConfiguredGuard extends JwtConnectionGuard {
  constructor(@Inject(Config) config: Config) {
    super({ secret: config.secret });
  }
}

@WebSocketGateway({ path: '/configured' })
class ConfiguredGateway {
  @UseGuards(ConfiguredGuard)
  handleConnection(): void {}
}

const factory = {
  provide: JwtConnectionGuard,
  inject: [Config],
  useFactory: ({ secret }: Config): JwtConnectionGuard => new JwtConnectionGuard({ secret }),
};

describe.each(platforms)('JwtConnectionGuard on $name', (platform) => {
  let running: RunningApp | undefined;

  const start = async (options: RealtimeModuleOptions, ...providers: any[]): Promise<RunningApp> => {
    const imports = [RealtimeModule.forRoot({ channels: { news: {}, 'chat.:room': {} }, ...options })];
    const prepare = (app: RunningApp['app']): void => app.useLogger(new WatchedLogger());
    return (running = await startApp(platform, { imports, providers }, prepare));
  };

  afterEach(async () => {
    jest.restoreAllMocks();
    await running?.close();
    running = undefined;
  });

  it('on handleConnection lets those in who have a token, and gives the connection its identity', async () => {
    const app = await start({}, StaffGateway, OpenGateway);
    const token = await sign({ channels: ['news'] });
    const me = { id: 'ann', channels: ['news'], expires: true };
    for (const headers of [bearer(token), { Cookie: `session=${token}` }]) {
      const peer = await connect(app, '/staff', { headers });
      expect(await peer.request('me', 0, 1)).toEqual({ id: 1, data: me });
    }
    const anybody = await connect(app, '/open');
    expect(await anybody.request('me', 0, 1)).toMatchObject({ id: 1, error: { code: 'forbidden' } });

    const peer = await ChannelPeer.connect(app, '/staff', { headers: bearer(token) });
    expect(await peer.ask('$subscribe', { channel: 'news' })).toHaveProperty('position');
    expect(await peer.ask('$subscribe', { channel: 'chat.a' })).toMatchObject({ code: 'forbidden' });
    const stream = await openStream(`${app.url}/staff/sse?channels=news`, bearer(token));
    expect((await stream.event('$open')).data).toContain('news');
    stream.close();
  });

  it('refuses with 401 before the peer is accepted, on every wire', async () => {
    const app = await start({}, StaffGateway);
    for (const [headers, code] of [
      [{}, 'unauthenticated'],
      [bearer('junk'), 'unauthenticated'],
      [bearer(forge({ alg: 'none' }, { sub: 'ann' })), 'unauthenticated'],
      [bearer(await sign({ exp: seconds() - 1 })), 'token_expired'],
      [{ Cookie: `session=${await sign({ sub: undefined })}` }, 'unauthenticated'],
    ] as const) {
      for (const answer of [
        await refused(app, '/staff', { headers }),
        await refusedStream(`${app.url}/staff/sse?channels=news`, headers),
      ]) {
        expect([answer.status, answer.body.error.code]).toEqual([401, code]);
        expect(answer.headers['www-authenticate']).toMatch(/^Bearer/);
      }
    }
    const embedded = { Cookie: `session=${await sign()}`, 'Sec-Fetch-Site': 'cross-site' };
    expect(await refusedStream(`${app.url}/staff/sse?channels=news`, embedded)).toMatchObject({ status: 403 });
  });

  it.each<[string, () => unknown[], string]>([
    ['extended by a class with dependencies', () => [ConfiguredGateway, Config], '/configured'],
    ['provided by a factory', () => [factory, Config], '/realtime'],
  ])('may be %s', async (_, providers, path) => {
    const app = await start(path === '/realtime' ? { connectionGuards: [JwtConnectionGuard] } : {}, ...providers());
    expect(await refused(app, path)).toMatchObject({ status: 401 });
    const peer = await connect(app, path, { headers: bearer(await sign()) });
    await peer.close();
  });

  it('ends the connection with its token', async () => {
    const app = await start({ connectionGuards: [new JwtConnectionGuard({ secret: SECRET })] });
    const peer = await connect(app, '/realtime', { headers: bearer(await sign({ exp: seconds() + 100 })) });
    const { now } = Date;
    jest.spyOn(Date, 'now').mockImplementation(() => now() + 126_000);
    expect(await peer.closed).toEqual({ code: 4401, reason: 'token_expired' });
  });

  it('tells keys that cannot be fetched as a failure of ours', async () => {
    const keys = await KeyServer.open();
    keys.status = 500;
    const app = await start({ connectionGuards: [new JwtConnectionGuard({ jwksUri: keys.url })] });
    app.app.useLogger(false); // it logs what is expected here
    const token = await sign({}, KEYS.RS256.privateKey, { alg: 'RS256', kid: 'a' });
    expect(await refused(app, '/realtime', { headers: bearer(token) })).toMatchObject({ status: 500 });
    await keys.close();
  });
});

it('JwtConnectionGuard tells its mistakes at once, those of jwtAuth alone included', () => {
  const options = { secret: 'short', query: 'token', firstFrame: true };
  expect(() => new JwtConnectionGuard(options)).toThrow(
    /^JwtConnectionGuard has wrong options:\n {2}- query: is no option.*\n {2}- firstFrame: is no option.*\n {2}- secret: is 5 bytes/,
  );
});
