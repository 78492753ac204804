import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import {
  HttpException,
  Injectable,
  type CanActivate,
  type ExecutionContext,
  type INestApplication,
} from '@nestjs/common';
import type { IncomingMessage } from 'node:http';
import {
  longPolling,
  RealtimeModule,
  RealtimeService,
  RealtimeException,
  sse,
  UserIdentity,
  webSocket,
  type Authenticator,
} from '../../lib/index.js';
import { Hub } from '../../lib/hub/hub.js';
import { get, PollingPeer, post } from '../support/polling-peer.js';
import { secret } from '../support/secrets.js';
import { WatchedLogger } from '../support/watched-logger.js';
import { refusedStream } from './support/event-stream.js';
import { refused } from './support/gateway-peer.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';

const token = (kind: string): string => secret(`token-of-${kind}`);
const bearer = (kind: string): Record<string, string> => ({ Authorization: `Bearer ${token(kind)}` });

/** Takes the tokens of `ann`; says what is wrong with the others. */
const auth: Authenticator = {
  authenticate: ({ token: text }) => {
    const kind = text.slice('token-of-'.length);
    if (kind === 'broken') return Promise.reject(new Error('The identity service does not answer'));
    if (kind === 'ended') return Promise.reject(new RealtimeException('token_expired'));
    if (!/^(ann|bob)/.test(kind)) return Promise.reject(new RealtimeException('unauthenticated'));
    return Promise.resolve(new UserIdentity(kind.slice(0, 3), { jti: kind }));
  },
};

@Injectable()
class Guard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const { headers } = context.switchToHttp().getRequest<IncomingMessage>();
    if (headers['x-teapot'] !== undefined) throw new HttpException({ short: 'and stout' }, 418);
    return headers['x-refused'] === undefined;
  }
}

interface Told {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: any; // whatever came
}

/** How each wire refuses a request with these headers. */
const handshakes: Record<string, (app: RunningApp, headers: Record<string, string>) => Promise<Told>> = {
  'an upgrade': (app, headers) => refused(app, '/realtime', { headers }),
  'a stream': ({ url }, headers) => refusedStream(`${url}/realtime/sse?channels=news`, { Accept: '*/*', ...headers }),
  'a first poll': ({ url }, headers) => post(`${url}/realtime/poll`, {}, headers).reply,
  'a poll by hand': ({ url }, headers) => get(`${url}/realtime/poll?channels=news`, headers).reply,
  'a request for a ticket': ({ url }, headers) => post(`${url}/realtime/ticket`, {}, headers).reply,
  'a fetch of data': ({ url }, headers) => get(`${url}/realtime/payload?channel=news&since=a-1-b`, headers).reply,
};

const CASES: [what: string, headers: () => Record<string, string>, status: number, code: string][] = [
  ['another origin', () => ({ ...bearer('ann'), Origin: 'https://evil.example' }), 403, 'origin_refused'],
  ['no credentials', () => ({}), 401, 'unauthenticated'],
  ['a token that nobody knows', () => bearer('eve'), 401, 'unauthenticated'],
  ['a token that has ended', () => bearer('ended'), 401, 'token_expired'],
  ['a revoked token', () => bearer('ann-gone'), 401, 'revoked'],
  ['a guard that says no', () => ({ ...bearer('ann'), 'X-Refused': '1' }), 403, 'forbidden'],
  ['an authenticator that fails', () => bearer('broken'), 500, 'internal'],
];

const quiet = (app: INestApplication): void => app.useLogger(new WatchedLogger());

describe.each(platforms)('refusals on $name', (platform) => {
  let app: RunningApp;
  let realtime: RealtimeService;

  beforeAll(async () => {
    const module = RealtimeModule.forRoot({
      auth: { ...auth, firstFrame: false },
      channels: { news: {} },
      connectionGuards: [Guard],
      transports: [webSocket(), sse(), longPolling()],
      limits: { handshakesPerAddress: false },
    });
    app = await startApp(platform, { imports: [module], providers: [Guard] }, quiet);
    realtime = app.app.get(RealtimeService);
    await realtime.revokeToken('ann-gone');
  });
  afterAll(() => app.close());

  describe.each(Object.entries(handshakes))('of %s', (_, ask) => {
    it.each(CASES)('for %s are real answers with a JSON body', async (_what, headers, status, code) => {
      const told = await ask(app, headers());
      expect([told.status, told.body.error.code]).toEqual([status, code]);
      expect(told.headers['content-type']).toMatch(/^application\/json/);
      expect(told.headers['cache-control']).toContain('no-store');
      expect(told.headers['www-authenticate'] !== undefined).toBe(status === 401);
    });

    it("keep a guard's status and body", async () => {
      const told = await ask(app, { ...bearer('ann'), 'X-Teapot': '1' });
      expect(told).toMatchObject({
        status: 418,
        body: { error: { code: 'rejected', details: { short: 'and stout' } } },
      });
    });
  });

  it.each(Object.entries(handshakes))('of %s past a limit say when to come back', async (_, ask) => {
    const module = RealtimeModule.forRoot({
      auth,
      channels: { news: {} },
      limits: { handshakesPerAddress: 1, handshakesPerSecond: false },
    });
    const limited = await startApp(platform, { imports: [module] }, quiet);
    jest.spyOn(Date, 'now').mockReturnValue(Date.now()); // no allowance comes back, however slow the machine is
    try {
      for (let i = 0; i < 2; i++) expect((await ask(limited, bearer('eve'))).status).toBe(401);
      const told = await ask(limited, bearer('eve'));
      expect([told.status, told.body.error.code]).toEqual([429, 'rate_limited']);
      expect(Number(told.headers['retry-after'])).toBe(Math.ceil(told.body.error.retryAfterMs / 1_000));
    } finally {
      jest.restoreAllMocks();
      await limited.close();
    }
  });

  it('of a node that goes away say when to come back', async () => {
    const module = RealtimeModule.forRoot({ auth, channels: { news: {} } });
    const leaving = await startApp(platform, { imports: [module] }, quiet);
    const peer = await PollingPeer.connect(() => `${leaving.url}/realtime`, { headers: bearer('ann') });
    await leaving.app.get(Hub).drain();
    const { pass } = peer;
    const asked = [
      ...Object.values(handshakes).map((ask) => ask(leaving, bearer('ann'))),
      post(`${leaving.url}/realtime/poll`, { pass }).reply,
      post(`${leaving.url}/realtime/send`, { pass, seq: 1, frames: [{ event: 'x' }] }).reply,
    ];
    for (const { status, headers, body } of await Promise.all(asked)) {
      expect([status, body.error.code]).toEqual([503, 'draining']);
      expect(Number(headers['retry-after'])).toBeGreaterThanOrEqual(1);
    }
    await leaving.close();
  });

  describe.each(['poll', 'send'])('of a %s with a pass', (subpath) => {
    const ask = async (peer: PollingPeer, headers: Record<string, string>): Promise<Told> => {
      const body = subpath === 'poll' ? { pass: peer.pass } : { pass: peer.pass, seq: 1, frames: [{ event: 'x' }] };
      return post(`${peer.base()}/${subpath}`, body, headers).reply;
    };
    const join = (kind = 'ann'): Promise<PollingPeer> =>
      PollingPeer.connect(() => `${app.url}/realtime`, { headers: bearer(kind) });

    it.each([
      ['another origin', () => ({ Origin: 'https://evil.example' }), 403, 'origin_refused'],
      ['a token that nobody knows', () => bearer('eve'), 401, 'unauthenticated'],
      ['a token that has ended', () => bearer('ended'), 401, 'token_expired'],
      ["somebody else's token", () => bearer('bob'), 403, 'forbidden'],
      ['an authenticator that fails', () => bearer('broken'), 500, 'internal'],
    ])('for %s leave the connection as it is', async (_, headers, status, code) => {
      const peer = await join();
      const told = await ask(peer, headers());
      expect([told.status, told.body.error.code]).toEqual([status, code]);
      expect(told.headers['content-type']).toMatch(/^application\/json/);
      expect(await peer.request('nothing')).toMatchObject({ error: { code: 'unknown_event' } });
    });

    it('for what has ended or never was', async () => {
      const peer = await join(`ann-${subpath}`);
      await realtime.revokeToken(`ann-${subpath}`);
      expect([401, 410]).toContain((await ask(peer, {})).status);
      expect(await ask(peer, {})).toMatchObject({ status: 410, body: { error: { code: 'gone' } } });
      peer.pass = 'A'.repeat(38);
      expect(await ask(peer, {})).toMatchObject({ status: 410, body: { error: { code: 'gone' } } });
    });
  });
});
