import { afterEach, describe, expect, it } from '@jest/globals';
import { RedisSentinel } from '../support/redis-sentinel.js';
import { RedisServer, until } from '../support/redis-server.js';
import { addresses, Installation, subscriptionName, untilNone } from './support/installation.js';

const channels = Array.from({ length: 20 }, (_, i) => `feed.${i}`);
const PEERS = { websocket: 12, sse: 12, eventSource: 6 };
/** How soon a loss is to be told, from the broker's return on. */
const TOLD_MS = 2_000;
const SETTLE_MS = 60_000;
/** Peers that come back while Redis is away, or just as it returns. */
const HOPPING = 10;

describe('peers of a Redis that lost publications', () => {
  let installation: Installation;
  let dispose: (() => Promise<void>)[] = [];

  afterEach(async () => {
    for (const end of dispose.reverse()) await end();
    dispose = [];
  });

  async function start(redis: Parameters<typeof Installation.start>[0]['redis']): Promise<void> {
    installation = await Installation.start({ redis, nodes: 2 });
    dispose.push(() => installation.dispose());
    await installation.follow(PEERS, channels, 5);
  }

  /** Publishes on channels, and waits until all peers have got it. */
  async function publish(on: readonly string[], count: number): Promise<void> {
    const { last } = await installation.publish(on, count);
    expect(await untilNone(() => installation.behind(last), SETTLE_MS)).toEqual([]);
  }

  /** Every subscription of these channels is told within 2 s of the return, once or twice, and no other is at all. */
  async function expectTold(affected: readonly string[], returnedAt: number): Promise<void> {
    const { ledger } = installation;
    const wanted = installation.subscriptions(affected);
    const told = (): Set<string> => new Set(ledger.losses.map(({ who, channel }) => subscriptionName(who, channel)));
    const untold = await untilNone(() => wanted.filter((name) => !told().has(name)), SETTLE_MS);
    expect(untold).toEqual([]);
    const times = new Map<string, number[]>();
    for (const { who, channel, at } of ledger.losses) {
      const name = subscriptionName(who, channel);
      times.set(name, [...(times.get(name) ?? []), at - returnedAt]);
    }
    const unwanted = [...times.keys()].filter((name) => !wanted.includes(name));
    expect(unwanted).toEqual([]);
    const late = [...times].filter(([, [first]]) => first! > TOLD_MS);
    expect(late).toEqual([]);
    expect([...times].filter(([, all]) => all.length > 2)).toEqual([]);
    if (process.env.CHAOS_FIGURES !== undefined) {
      const firsts = [...times.values()].map(([first]) => first!).sort((a, b) => a - b);
      console.info({
        told: firsts.length,
        reasons: [...new Set(ledger.losses.map(({ reason }) => reason))],
        fastestMs: firsts[0],
        medianMs: firsts[firsts.length >> 1],
        slowestMs: firsts.at(-1),
      });
    }
  }

  it('are all told when it was restarted without persistence', async () => {
    const server = await RedisServer.start();
    dispose.push(() => server.dispose());
    await start({ url: server.url });
    await publish(channels, 20);
    await server.kill();
    installation.balancer.hop(HOPPING);
    const meanwhile = installation.publish(channels, 5);
    await server.start();
    await expectTold(channels, installation.ledger.watch.elapsedMs);
    await meanwhile;
    await publish(channels, 20);
    expect(installation.ledger.defects).toEqual([]);
  }, 300_000);

  it('are told after a failover where their tail was not replicated, and only they', async () => {
    const sentinel = await RedisSentinel.start();
    dispose.push(() => sentinel.dispose());
    await start({ sentinels: addresses(sentinel.sentinels) });
    const [affected, unaffected] = [channels.slice(0, 10), channels.slice(10)];
    await publish(channels, 20);
    const master = await sentinel.master();
    const replicas = sentinel.servers.filter((server) => server !== master);
    const replicated = Number(/master_repl_offset:(\d+)/.exec(await master.send('INFO', 'replication'))![1]);
    for (const replica of replicas) {
      const offset = async (): Promise<number> =>
        Number(/slave_repl_offset:(\d+)/.exec(await replica.send('INFO', 'replication'))![1]);
      await until(async () => (await offset()) >= replicated, 'what was published at a replica');
      // It cannot connect again to a master that cuts it off.
      replica.signal('SIGSTOP');
    }
    await master.send('CLIENT', 'KILL', 'TYPE', 'replica');
    await publish(affected, 5);

    await sentinel.watch();
    await master.kill();
    for (const replica of replicas) replica.signal('SIGCONT');
    installation.balancer.hop(HOPPING);
    // On the affected channels these get the offsets of those that were lost.
    const meanwhile = installation.publish(channels, 5);
    await sentinel.replaced(master);
    const returnedAt = installation.ledger.watch.elapsedMs;
    await expectTold(affected, returnedAt);
    await meanwhile;
    await publish(channels, 20);
    await expectTold(affected, returnedAt);
    expect(installation.subscriptions(unaffected).length).toBeGreaterThan(0);
    expect(installation.ledger.defects).toEqual([]);
  }, 300_000);
});
