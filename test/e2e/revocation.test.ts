import { afterEach, describe, expect, it } from '@jest/globals';
import { once } from 'node:events';
import {
  memoryBroker,
  RealtimeModule,
  RealtimeService,
  UserIdentity,
  type Authenticator,
  type Broker,
} from '../../lib/index.js';
import { redisBroker } from '../../lib/redis.js';
import { RedisServer, until } from '../support/redis-server.js';
import { Stopwatch } from '../support/stopwatch.js';
import { secret } from '../support/secrets.js';
import { TcpLink } from '../../lib/testing/tcp-link.js';
import { openStream, refusedStream } from './support/event-stream.js';
import { connect, open, refused } from './support/gateway-peer.js';
import { platforms, startApp } from './support/platforms.js';

/** How soon a revoked peer has to be gone, ms. */
const SOON_MS = 1_000;
const REVOKED = { code: 4410, reason: 'revoked' };
const ISSUED_S = Math.floor(Date.now() / 1_000) - 60;

/** A token of this test, which is its own id; `ada-1` is ada's. */
const token = (id: string): string => secret(`token-of-${id}`);

const auth: Authenticator = {
  authenticate: ({ token: text }) => {
    const jti = text.slice('token-of-'.length);
    return Promise.resolve(new UserIdentity(jti.split('-')[0]!, { jti, iat: ISSUED_S }));
  },
};

const streamOf = ({ port }: { port: number }): string => `http://127.0.0.1:${port}/realtime/sse?channels=news`;

const as = (id: string) => ({ headers: { Authorization: `Bearer ${token(id)}` } });

describe.each(platforms)('revocation on $name', (platform) => {
  let dispose: (() => Promise<unknown> | void)[] = [];
  afterEach(async () => {
    for (const end of dispose.reverse()) await end();
    dispose = [];
  });

  async function start(broker: Broker): Promise<{ port: number; realtime: RealtimeService }> {
    const imports = [RealtimeModule.forRoot({ broker, auth, channels: { news: {} } })];
    const { app, port, close } = await startApp(platform, { imports });
    dispose.push(close);
    return { port, realtime: app.get(RealtimeService) };
  }

  it('ends a token on every node and wire, and lets it in no more', async () => {
    const broker = memoryBroker();
    const [one, two] = [await start(broker), await start(broker)];
    const sockets = [await connect(one, '/realtime', as('ada-1')), await connect(two, '/realtime', as('ada-1'))];
    const other = await connect(two, '/realtime', as('ada-2'));
    const stream = await openStream(streamOf(two), as('ada-1').headers);
    await stream.event('$open');
    const watch = new Stopwatch();
    await one.realtime.revokeToken('ada-1');
    expect(await Promise.all(sockets.map((socket) => socket.closed))).toEqual([REVOKED, REVOKED]);
    expect(JSON.parse((await stream.event('$disconnect')).data!)).toMatchObject({ ...REVOKED, reconnect: false });
    await stream.ended;
    expect(watch.stop()).toBeLessThan(SOON_MS);
    expect(await other.settle()).toEqual([]);
    for (const node of [one, two]) {
      const upgrade = await refused(node, '/realtime', as('ada-1'));
      expect([upgrade.status, upgrade.body.error.code]).toEqual([401, 'revoked']);
      const answer = await refusedStream(streamOf(node), as('ada-1').headers);
      expect([answer.status, answer.body.error.code]).toEqual([401, 'revoked']);
    }
    const peer = open(one.port);
    await once(peer.socket, 'open');
    peer.send({ id: 1, event: '$auth', data: { token: token('ada-1') } });
    expect(await peer.closed).toEqual(REVOKED);
    await other.close();
  });

  it('ends all tokens of a user', async () => {
    const broker = memoryBroker();
    const [one, two] = [await start(broker), await start(broker)];
    const devices = [await connect(one, '/realtime', as('ada-1')), await connect(two, '/realtime', as('ada-2'))];
    const bob = await connect(two, '/realtime', as('bob-1'));
    await one.realtime.revokeUser('ada', { expiresAt: Date.now() + 60_000 });
    expect(await Promise.all(devices.map((device) => device.closed))).toEqual([REVOKED, REVOKED]);
    expect((await refused(two, '/realtime', as('ada-3'))).status).toBe(401);
    expect(await bob.settle()).toEqual([]);
    await bob.close();
  });

  it('rejects what it cannot mean', async () => {
    const { realtime } = await start(memoryBroker());
    const invalid = { code: 'invalid' };
    await expect(realtime.revokeToken('')).rejects.toMatchObject(invalid);
    await expect(realtime.revokeUser(undefined as unknown as string)).rejects.toMatchObject(invalid);
    await expect(realtime.revokeUser('x'.repeat(1_025))).rejects.toMatchObject(invalid);
    await expect(realtime.revokeToken('k', { expiresAt: Date.now() - 1 })).rejects.toMatchObject(invalid);
  });

  it('reaches a node that was cut off from Redis at its reconnect, and says so while Redis is away', async () => {
    const redis = await RedisServer.start();
    dispose.push(() => redis.dispose());
    const ways = [await TcpLink.open(redis.port), await TcpLink.open(redis.port)];
    dispose.push(...ways.map((way) => () => way.close()));
    const [one, two] = (await Promise.all(
      ways.map(({ port }) => start(redisBroker({ url: `redis://127.0.0.1:${port}`, publishTimeoutMs: 2_000 }))),
    )) as [Awaited<ReturnType<typeof start>>, Awaited<ReturnType<typeof start>>];
    const before = await connect(two, '/realtime', as('ada-1'));
    ways[1]!.cut();
    await until(() => !two.realtime.health().broker.available, 'the cut');
    await one.realtime.revokeToken('ada-1');
    await expect(two.realtime.revokeToken('ada-2')).rejects.toMatchObject({ code: 'broker_unavailable' });
    const meanwhile = await connect(two, '/realtime', as('ada-1'));
    ways[1]!.heal();
    expect(await before.closed).toEqual(REVOKED);
    expect(await meanwhile.closed).toEqual(REVOKED);
    expect((await refused(two, '/realtime', as('ada-1'))).status).toBe(401);
  });
});
