import { afterEach, describe, expect, it } from '@jest/globals';
import { Feed } from '../../sample/feed.js';
import { Leader } from '../../sample/leader.js';
import { RedisServer, until } from '../support/redis-server.js';

const leadersOf = (leaders: readonly Leader[]): Leader[] => leaders.filter((leader) => leader.leads);

class NamedFeed extends Feed {
  protected readonly intervalMs = 2;

  constructor(
    leader: Leader,
    private readonly name: string,
    private readonly log: string[],
  ) {
    super(leader);
  }

  protected override takeOver(): Promise<void> {
    this.log.push(`${this.name} takes over`);
    return Promise.resolve();
  }

  protected publishNext(): Promise<unknown> {
    this.log.push(this.name);
    return Promise.resolve();
  }
}

describe('which node publishes the feeds', () => {
  let dispose: (() => Promise<void> | void)[] = [];
  afterEach(async () => {
    for (const end of dispose.reverse()) await end();
    dispose = [];
  });

  async function startRedis(): Promise<RedisServer> {
    const redis = await RedisServer.start();
    dispose.push(() => redis.dispose());
    return redis;
  }

  function startLeader(url: string | undefined, node: string): Leader {
    const leader = new Leader(url, node);
    leader.onModuleInit();
    dispose.push(() => leader.onModuleDestroy());
    return leader;
  }

  it('is the only one, without Redis', () => {
    expect(startLeader(undefined, 'a').leads).toBe(true);
  });

  it('is one of those at one Redis, and the next one at once when it shuts down', async () => {
    const redis = await startRedis();
    const names = ['a', 'b', 'c'];
    const leaders = names.map((node) => startLeader(redis.url, node));
    await until(() => leadersOf(leaders).length > 0, 'one leads');
    const [first, ...more] = leadersOf(leaders);
    expect(more).toEqual([]);

    await first!.onModuleDestroy();
    // Free, or another's already.
    expect(await redis.send('GET', 'realtime-demo:leader')).not.toBe(names[leaders.indexOf(first!)]);
    await until(() => leadersOf(leaders).length > 0, 'another leads');
    expect(leadersOf(leaders)).toHaveLength(1);
    expect(first!.leads).toBe(false);
  });

  it('is none while Redis is away, and one again when it is back', async () => {
    const redis = await startRedis();
    const leaders = ['a', 'b'].map((node) => startLeader(redis.url, node));
    await until(() => leadersOf(leaders).length === 1, 'one leads');
    await redis.kill();
    await until(() => leadersOf(leaders).length === 0, 'none leads');
    await redis.start();
    await until(() => leadersOf(leaders).length === 1, 'one leads again');
  });

  it('publishes alone, and goes on where the one before it stopped', async () => {
    const redis = await startRedis();
    const log: string[] = [];
    const [a, b] = ['a', 'b'].map((node) => {
      const leader = startLeader(redis.url, node);
      const feed = new NamedFeed(leader, node, log);
      dispose.push(() => feed.onModuleDestroy());
      feed.onApplicationBootstrap();
      return { leader, node };
    });
    await until(() => log.length > 20, 'a feed publishes');
    const [first, second] = a!.leader.leads ? [a!, b!] : [b!, a!];
    await first.leader.onModuleDestroy();
    await until(() => log.filter((entry) => entry === second.node).length > 20, 'the other feed publishes');

    const turn = log.indexOf(`${second.node} takes over`);
    expect(log.slice(0, turn)).toEqual([`${first.node} takes over`, ...Array<string>(turn - 1).fill(first.node)]);
    expect(new Set(log.slice(turn + 1))).toEqual(new Set([second.node]));
  });
});
