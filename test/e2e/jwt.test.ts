import { afterEach, describe, expect, it } from '@jest/globals';
import { Logger, type DynamicModule } from '@nestjs/common';
import { JwtModule, JwtService } from '@nestjs/jwt';
import { createHmac } from 'node:crypto';
import { RealtimeModule } from '../../lib/index.js';
import { jwtAuth, type JwtAuthOptions } from '../../lib/jwt.js';
import { forge, KEYS, SECRET, SECRET_KEY, seconds, sign } from '../support/jwt.js';
import { WatchedLogger } from '../support/watched-logger.js';
import { openStream, refusedStream } from './support/event-stream.js';
import { open, refused } from './support/gateway-peer.js';
import { KeyServer } from './support/key-server.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';

const RS256 = [KEYS.RS256.privateKey, { alg: 'RS256' }] as const;
const NEWS = '/realtime/sse?channels=news';
const bearer = (token: string): Record<string, string> => ({ Authorization: `Bearer ${token}` });

/** How a peer's token is refused: over an upgrade, a stream, and in the first frame. */
async function refusals(app: RunningApp, token: string): Promise<unknown[]> {
  const upgrade = await refused(app, '/realtime', { headers: bearer(token) });
  const stream = await refusedStream(`${app.url}${NEWS}`, bearer(token));
  const peer = open(app.port);
  peer.socket.once('open', () => peer.send({ id: 1, event: '$auth', data: { token } }));
  const { code, reason } = await peer.closed;
  return [
    [upgrade.status, upgrade.body.error.code],
    [stream.status, stream.body.error.code],
    [code, reason],
  ];
}

/** Who a peer with a token is, over an upgrade and a stream. */
async function accepted(app: RunningApp, token: string): Promise<string[]> {
  const peer = open(app.port, '/realtime', { headers: bearer(token) });
  const greeting = await peer.next();
  const stream = await openStream(`${app.url}${NEWS}&format=frames`, bearer(token));
  const connected = JSON.parse((await stream.event()).data!);
  stream.close();
  await peer.close();
  return [greeting.data.user.id, connected.data.user.id];
}

describe.each(platforms)('JSON Web Tokens on $name', (platform) => {
  let running: RunningApp | undefined;
  let keys: KeyServer | undefined;

  const startWith = async (module: DynamicModule): Promise<RunningApp> =>
    (running = await startApp(platform, { imports: [module] }, (app) => app.useLogger(new WatchedLogger())));
  const start = (options: JwtAuthOptions): Promise<RunningApp> =>
    startWith(RealtimeModule.forRoot({ auth: jwtAuth(options), channels: { news: {} } }));

  afterEach(async () => {
    await running?.close();
    running = undefined;
    await keys?.close();
    keys = undefined;
  });

  it.each([
    ['HS256', { secret: SECRET }, SECRET_KEY],
    ['RS256', { publicKey: KEYS.RS256.publicKey }, KEYS.RS256.privateKey],
    ['ES256', { publicKey: KEYS.ES256.publicKey }, KEYS.ES256.privateKey],
    ['EdDSA', { publicKey: KEYS.EdDSA.publicKey }, KEYS.EdDSA.privateKey],
  ])('signed with %s let a peer in, and no other', async (alg, options, key) => {
    const app = await start(options);
    expect(await accepted(app, await sign({}, key, { alg }))).toEqual(['ann', 'ann']);
    const [header, payload, signature] = (await sign({ sub: 'bob' }, key, { alg })).split('.');
    const tampered = Buffer.from(payload!, 'base64url').toString().replace('bob', 'ann');
    const token = `${header}.${Buffer.from(tampered).toString('base64url')}.${signature}`;
    expect(await refusals(app, token)).toEqual([
      [401, 'unauthenticated'],
      [401, 'unauthenticated'],
      [4401, 'unauthenticated'],
    ]);
  });

  const claims = { sub: 'ann', iss: 'us', aud: 'app', exp: seconds() + 3600 };
  it.each([
    ['alg none', 'unauthenticated', () => forge({ alg: 'none' }, claims)],
    [
      'an HS256 by the public key',
      'unauthenticated',
      () => {
        const signed = forge({ alg: 'HS256' }, claims).slice(0, -1);
        const pem = KEYS.RS256.publicKey.export({ type: 'spki', format: 'pem' });
        return `${signed}.${createHmac('sha256', pem).update(signed).digest('base64url')}`;
      },
    ],
    ['another key', 'unauthenticated', () => sign(claims, SECRET_KEY)],
    ['another issuer', 'unauthenticated', () => sign({ ...claims, iss: 'them' }, ...RS256)],
    ['another audience', 'unauthenticated', () => sign({ ...claims, aud: 'mail' }, ...RS256)],
    ['no audience', 'unauthenticated', () => sign({ ...claims, aud: undefined }, ...RS256)],
    ['a later beginning', 'unauthenticated', () => sign({ ...claims, nbf: seconds() + 600 }, ...RS256)],
    ['no subject', 'unauthenticated', () => sign({ ...claims, sub: undefined }, ...RS256)],
    ['an end that has come', 'token_expired', () => sign({ ...claims, exp: seconds() - 1 }, ...RS256)],
  ])('with %s are refused on every wire', async (_, code, token) => {
    const app = await start({ publicKey: KEYS.RS256.publicKey, issuer: 'us', audience: 'app' });
    expect(await accepted(app, await sign(claims, ...RS256))).toEqual(['ann', 'ann']);
    expect(await refusals(app, await token())).toEqual([
      [401, code],
      [401, code],
      [4401, code],
    ]);
  });

  it('come in a cookie or the query where the options name them', async () => {
    const app = await start({ secret: SECRET, cookie: 'session', query: 'access_token' });
    const token = await sign();
    for (const [path, headers] of [
      [NEWS, { Cookie: `session=${token}` }],
      [`${NEWS}&access_token=${token}`, {}],
    ] as const) {
      const stream = await openStream(app.url + path, headers);
      expect((await stream.event('$open')).data).toContain('"channels":{"news"');
      stream.close();
    }
    const foreign = { Cookie: `session=${token}`, Origin: 'https://evil.example' };
    expect(await refusedStream(app.url + NEWS, foreign)).toMatchObject({ status: 403 });
    expect(await refused(app, '/realtime', { headers: foreign })).toMatchObject({ status: 403 });
  });

  it('are verified by keys that are fetched, also when those are replaced', async () => {
    keys = await KeyServer.open();
    keys.keys = { old: KEYS.RS256.publicKey };
    const app = await start({ jwksUri: keys.url, jwks: { cooldownMs: 0 } });
    const old = await sign({}, KEYS.RS256.privateKey, { alg: 'RS256', kid: 'old' });
    expect(await accepted(app, old)).toEqual(['ann', 'ann']);
    expect(keys.asked).toBe(1);

    keys.keys = { new: KEYS.ES256.publicKey, other: KEYS.EdDSA.publicKey };
    expect(await accepted(app, await sign({}, KEYS.ES256.privateKey, { alg: 'ES256', kid: 'new' }))).toEqual([
      'ann',
      'ann',
    ]);
    expect(keys.asked).toBe(2);
    const [upgrade, stream, frame] = await refusals(app, old);
    expect([upgrade, stream, frame]).toEqual([
      [401, 'unauthenticated'],
      [401, 'unauthenticated'],
      [4401, 'unauthenticated'],
    ]);
    expect((await refusals(app, await sign({}, SECRET_KEY, { alg: 'HS256', kid: 'new' })))[0]).toEqual([
      401,
      'unauthenticated',
    ]);
  });

  it('that do not name their key are tried with each that would do', async () => {
    keys = await KeyServer.open();
    const [first, second] = [KEYS.ES256, KEYS.otherES256];
    keys.keys = { first: first.publicKey, second: second.publicKey };
    const app = await start({ jwksUri: new URL(keys.url) });
    expect(await accepted(app, await sign({}, second.privateKey, { alg: 'ES256' }))).toEqual(['ann', 'ann']);
    const expired = await sign({ exp: seconds() - 1 }, second.privateKey, { alg: 'ES256' });
    expect((await refusals(app, expired))[0]).toEqual([401, 'token_expired']);
    const foreign = await sign({}, KEYS.thirdES256.privateKey, { alg: 'ES256' });
    expect((await refusals(app, foreign))[0]).toEqual([401, 'unauthenticated']);
  });

  it('are no worse for keys that cannot be fetched: that is our failure, and peers come back', async () => {
    keys = await KeyServer.open();
    keys.keys = { a: KEYS.RS256.publicKey };
    const app = await start({ jwksUri: keys.url });
    Logger.overrideLogger(false); // it logs what is expected here
    const token = await sign({}, KEYS.RS256.privateKey, { alg: 'RS256', kid: 'a' });
    for (const status of [503, 0]) {
      keys.status = status;
      expect(await refusals(app, token)).toEqual([
        [500, 'internal'],
        [500, 'internal'],
        [4500, 'internal'],
      ]);
    }
    keys.status = 200;
    expect(await accepted(app, token)).toEqual(['ann', 'ann']);
  });

  it('are verified by the service of @nestjs/jwt, with its own options', async () => {
    const jwt = JwtModule.register({
      secret: SECRET,
      signOptions: { issuer: 'us', expiresIn: '1h' },
      verifyOptions: { issuer: 'us' },
    });
    const app = await startWith(
      RealtimeModule.forRootAsync({
        imports: [jwt],
        inject: [JwtService],
        useFactory: (service: JwtService) => ({ auth: jwtAuth({ service }), channels: { news: {} } }),
      }),
    );
    const service = app.app.get(JwtService, { strict: false });
    expect(await accepted(app, await service.signAsync({ sub: 'ann' }))).toEqual(['ann', 'ann']);
    for (const [token, code] of [
      [await sign({ iss: 'them' }), 'unauthenticated'],
      [await sign({ iss: 'us', exp: seconds() - 1 }), 'token_expired'],
      [await sign({ iss: 'us', nbf: seconds() + 600 }), 'unauthenticated'],
      [forge({ alg: 'none' }, { sub: 'ann', iss: 'us' }), 'unauthenticated'],
      ['junk', 'unauthenticated'],
    ] as const) {
      expect(await refusals(app, token)).toEqual([
        [401, code],
        [401, code],
        [4401, code],
      ]);
    }
  });

  it('let a peer in by its first frame, whose answer says until when', async () => {
    const app = await start({ secret: SECRET });
    const exp = seconds() + 60;
    const token = await sign({ exp });
    const peer = open(app.port);
    peer.socket.once('open', () => peer.send({ id: 1, event: '$auth', data: { token } }));
    expect(await peer.next()).toMatchObject({ event: '$connected', data: { user: { id: 'ann' } } });
    expect(await peer.next()).toEqual({ id: 1, data: { user: { id: 'ann' }, expiresAt: exp * 1000 } });
  });
});
