import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { CanActivate, ExecutionContext } from '@nestjs/common';
import { MessageBody, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { RealtimeModule, type RealtimeModuleOptions } from '../../lib/index.js';
import { until } from '../support/redis-server.js';
import { openStream, refusedStream } from './support/event-stream.js';
import { connect, open, refused, type Peer } from './support/gateway-peer.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';
import { tokenOf, tokenUsers } from './support/token-users.js';

@WebSocketGateway()
class EchoGateway {
  @SubscribeMessage('echo')
  echo(@MessageBody() data: unknown): unknown {
    return data;
  }
}

/** A link that stays open until it is closed. */
interface Held {
  close(): void;
}

type Headers = Record<string, string>;

/** A wire: how a peer comes by it, and how it is refused. */
const wires = [
  {
    name: 'WebSocket',
    enter: async (app: RunningApp, headers: Headers = {}): Promise<Held> => {
      const peer = open(app.port, '/realtime', { headers });
      peer.socket.on('error', () => undefined);
      const first = await Promise.race([peer.next(), peer.closed]);
      if (first.event !== '$connected') throw new Error(`Not connected: ${JSON.stringify(first)}`);
      return { close: () => peer.socket.close() };
    },
    refused: (app: RunningApp, headers: Headers = {}) => refused(app, '/realtime', { headers }),
  },
  {
    name: 'SSE',
    enter: (app: RunningApp, headers: Headers = {}): Promise<Held> => openStream(streamOf(app), headers),
    refused: (app: RunningApp, headers: Headers = {}) => refusedStream(streamOf(app), { Accept: '*/*', ...headers }),
  },
];

const streamOf = ({ url }: RunningApp): string => `${url}/realtime/sse?channels=news`;
/** A peer of an address, behind a proxy that is trusted. */
const from = (address: string): Headers => ({ 'X-Forwarded-For': address });
const user = (name: string): Headers => ({ Authorization: `Bearer ${tokenOf(name)}` });

/** Makes the user that a header names. */
class NamedUserGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest();
    request.user = { id: request.headers['x-name'] };
    return true;
  }
}

describe.each(platforms)('limits on $name', (platform) => {
  let app: RunningApp | undefined;

  // The clock of rates stands still: no allowance comes back, however slow the machine is.
  beforeEach(() => {
    jest.spyOn(Date, 'now').mockReturnValue(Date.now());
  });

  afterEach(async () => {
    jest.restoreAllMocks();
    await app?.close();
  });

  async function start(options: RealtimeModuleOptions): Promise<RunningApp> {
    const settings = { channels: { news: {} }, trustedProxies: 1, ...options };
    app = await startApp(platform, { imports: [RealtimeModule.forRoot(settings)], providers: [EchoGateway] });
    return app;
  }

  describe.each(wires)('of handshakes over $name', ({ enter, refused: refusal }) => {
    it('per address: 429 with the time to wait, for this address alone; failed ones count', async () => {
      const running = await start({ limits: { handshakesPerAddress: 1 }, auth: tokenUsers });
      await enter(running, { ...from('1.1.1.1'), ...user('ada') });
      expect(await refusal(running, { ...from('1.1.1.1'), Authorization: 'Bearer' })).toMatchObject({ status: 401 });
      const { status, headers, body } = await refusal(running, { ...from('1.1.1.1'), ...user('ada') });
      expect([status, body.error.code]).toEqual([429, 'rate_limited']);
      expect(body.error.retryAfterMs).toBeGreaterThanOrEqual(1_000);
      expect(Number(headers['retry-after'])).toBe(Math.ceil(body.error.retryAfterMs / 1_000));
      await enter(running, { ...from('2.2.2.2'), ...user('ada') });
    });

    it('per second: 429 for all addresses', async () => {
      const running = await start({ limits: { handshakesPerSecond: 1 } });
      await enter(running, from('1.1.1.1'));
      await enter(running, from('2.2.2.2'));
      expect(await refusal(running, from('3.3.3.3'))).toMatchObject({
        status: 429,
        body: { error: { code: 'rate_limited', message: 'Too many handshakes' } },
      });
    });
  });

  describe.each(wires)('of connections over $name', ({ enter, refused: refusal }) => {
    const tooMany = { status: 429, body: { error: { code: 'too_many_connections' } } };
    const enters = (running: RunningApp, headers: Headers): Promise<void> =>
      until(
        () =>
          enter(running, headers).then(
            () => true,
            () => false,
          ),
        'a place that was left',
      );

    it('per address, until one has gone', async () => {
      const running = await start({ limits: { connectionsPerAddress: 2 } });
      const first = await enter(running, from('1.1.1.1'));
      await enter(running, from('1.1.1.1'));
      const { headers, ...told } = await refusal(running, from('1.1.1.1'));
      expect(told).toMatchObject(tooMany);
      expect(Number(headers['retry-after'])).toBeGreaterThanOrEqual(5);
      await enter(running, from('2.2.2.2'));
      first.close();
      await enters(running, from('1.1.1.1'));
      expect(await refusal(running, from('1.1.1.1'))).toMatchObject(tooMany);
    });

    it('per network of IPv6', async () => {
      const running = await start({ limits: { connectionsPerAddress: 1 } });
      await enter(running, from('2001:db8:1:2::1'));
      expect(await refusal(running, from('2001:db8:1:2:ffff::7'))).toMatchObject(tooMany);
      await enter(running, from('2001:db8:1:3::1'));
    });

    it('of the node', async () => {
      const running = await start({ limits: { maxConnections: 2 } });
      const first = await enter(running, from('1.1.1.1'));
      await enter(running, from('2.2.2.2'));
      expect(await refusal(running, from('3.3.3.3'))).toMatchObject(tooMany);
      first.close();
      await enters(running, from('3.3.3.3'));
    });

    it('per user, whatever address; a refused one does not count', async () => {
      const running = await start({ limits: { connectionsPerUser: 2 }, auth: tokenUsers });
      const first = await enter(running, { ...from('1.1.1.1'), ...user('ada') });
      await enter(running, { ...from('2.2.2.2'), ...user('ada') });
      for (let i = 0; i < 3; i++) {
        expect(await refusal(running, { ...from('3.3.3.3'), ...user('ada') })).toMatchObject(tooMany);
      }
      await enter(running, { ...from('3.3.3.3'), ...user('bob') });
      first.close();
      await enters(running, { ...from('3.3.3.3'), ...user('ada') });
      expect(await refusal(running, { ...from('3.3.3.3'), ...user('ada') })).toMatchObject(tooMany);
    });

    it('per user that a guard names', async () => {
      const running = await start({ limits: { connectionsPerUser: 1 }, connectionGuards: [NamedUserGuard] });
      await enter(running, { 'X-Name': 'ada' });
      expect(await refusal(running, { 'X-Name': 'ada' })).toMatchObject(tooMany);
      await enter(running, { 'X-Name': 'bob' });
    });

    it('counts handshakes that are under way', async () => {
      let asked = 0;
      let decide: () => void = () => undefined;
      const decided = new Promise<void>((resolve) => (decide = resolve));
      const slow: CanActivate = {
        canActivate: async () => {
          asked++;
          await decided;
          return true;
        },
      };
      const running = await start({ limits: { connectionsPerAddress: 3 }, connectionGuards: [slow] });
      const entering = [1, 2, 3].map(() => enter(running, from('1.1.1.1')));
      await until(() => asked === 3, 'three slow handshakes');
      expect(await refusal(running, from('1.1.1.1'))).toMatchObject(tooMany);
      decide();
      await Promise.all(entering);
    });

    it('off', async () => {
      const running = await start({
        limits: {
          connectionsPerAddress: false,
          connectionsPerUser: false,
          handshakesPerAddress: false,
          handshakesPerSecond: false,
        },
        auth: tokenUsers,
      });
      for (let i = 0; i < 80; i++) await enter(running, user('ada'));
    });
  });

  it('of a user whose token comes in the first frame close with 4530', async () => {
    const running = await start({ limits: { connectionsPerUser: 1 }, auth: tokenUsers });
    const login = async (): Promise<Peer> => {
      const peer = open(running.port);
      await new Promise((resolve) => peer.socket.once('open', resolve));
      peer.send({ id: 1, event: '$auth', data: { token: tokenOf('ada') } });
      return peer;
    };
    expect(await (await login()).next()).toMatchObject({ event: '$connected' });
    const second = await login();
    const data = { code: 4530, reason: 'too_many_connections', reconnect: true, delayMs: expect.any(Number) };
    expect(await second.next()).toEqual({ event: '$disconnect', data });
    expect(await second.closed).toEqual({ code: 4530, reason: 'too_many_connections' });
  });

  it("are told by close codes where rejectMode is 'close'", async () => {
    for (const [limits, code, reason] of [
      [{ handshakesPerSecond: 1 }, 4529, 'rate_limited'],
      [{ maxConnections: 2 }, 4530, 'too_many_connections'],
    ] as const) {
      const running = await start({ limits, rejectMode: 'close' });
      await connect(running);
      await connect(running);
      const third = open(running.port);
      const data = { code, reason, reconnect: true, delayMs: expect.any(Number) };
      expect(await third.next()).toEqual({ event: '$disconnect', data });
      expect(await third.closed).toEqual({ code, reason });
      if (code === 4529) await running.close();
    }
  });

  it('have an EventSource come back', async () => {
    const running = await start({ limits: { maxConnections: 1 } });
    await openStream(streamOf(running));
    const told = await openStream(streamOf(running));
    const { retry } = await told.next();
    expect(Number(retry)).toBeGreaterThanOrEqual(3_750);
    await told.ended;
  });

  it('of frames answer by the id, and close a peer that goes on', async () => {
    const running = await start({ limits: { framesPerSecond: 5 } });
    const peer = await connect(running);
    for (let id = 1; id <= 15; id++) peer.send({ id, event: 'echo', data: id });
    const answers: any[] = [];
    while (answers.length < 15) answers.push(await peer.next());
    answers.sort((a, b) => a.id - b.id);
    expect(answers.slice(0, 10)).toEqual(Array.from({ length: 10 }, (_, i) => ({ id: i + 1, data: i + 1 })));
    const error = { code: 'rate_limited', message: 'Too many frames', retryAfterMs: expect.any(Number) };
    expect(answers.slice(10)).toEqual([11, 12, 13, 14, 15].map((id) => ({ id, error })));
    for (let id = 16; id <= 40; id++) peer.send({ id, event: 'echo', data: id });
    let last;
    do last = await peer.next();
    while (last.id !== undefined);
    expect(last).toMatchObject({ event: '$disconnect', data: { code: 4529, reconnect: true } });
    expect(await peer.closed).toEqual({ code: 4529, reason: 'rate_limited' });
  });
});
