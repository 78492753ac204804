import { afterEach, describe, expect, it } from '@jest/globals';
import { RealtimeModule, RealtimeService } from '../../lib/index.js';
import { redisBroker } from '../../lib/redis.js';
import { RedisServer, until } from '../support/redis-server.js';
import { Stopwatch } from '../support/stopwatch.js';
import { TcpLink } from '../../lib/testing/tcp-link.js';
import { connect, type Peer } from './support/gateway-peer.js';
import { platforms, startApp } from './support/platforms.js';
import { as, tokenUsers } from './support/token-users.js';

/** How soon a message to nodes has to have its effect, ms. */
const SOON_MS = 1_000;
const FORBIDDEN = { code: 4403, reason: 'forbidden' };

interface Node {
  readonly port: number;
  readonly realtime: RealtimeService;
  /** Its way to Redis. */
  readonly way: TcpLink;
}

describe.each(platforms)('nodes that are cut off from Redis, on $name', (platform) => {
  let dispose: (() => Promise<unknown>)[] = [];
  afterEach(async () => {
    for (const end of dispose.reverse()) await end();
    dispose = [];
  });

  async function start(count: number): Promise<Node[]> {
    const redis = await RedisServer.start();
    dispose.push(() => redis.dispose());
    const nodes: Node[] = [];
    while (nodes.length < count) {
      const way = await TcpLink.open(redis.port);
      const broker = redisBroker({ url: `redis://127.0.0.1:${way.port}`, publishTimeoutMs: 2_000 });
      const imports = [RealtimeModule.forRoot({ broker, auth: tokenUsers, channels: { news: {} } })];
      const { app, port, close } = await startApp(platform, { imports });
      dispose.push(() => way.close(), close);
      nodes.push({ port, realtime: app.get(RealtimeService), way });
    }
    return nodes;
  }

  const ada = (node: Node): Promise<Peer> => connect(node, '/realtime', as('ada'));

  async function cut(node: Node): Promise<void> {
    node.way.cut();
    await until(() => !node.realtime.health().broker.available, 'the cut');
  }

  it('apply what they missed, in order, as soon as they are back', async () => {
    const [one, two] = (await start(2)) as [Node, Node];
    const [near, far] = [await ada(one), await ada(two)];
    await near.request('$subscribe', { channel: 'news' });
    await far.request('$subscribe', { channel: 'news' });
    await cut(two);
    await one.realtime.toUser('ada').emit('note', 1);
    await one.realtime.unsubscribeUser('ada', 'news');
    await one.realtime.toUser('ada').emit('note', 2);
    await one.realtime.disconnectUser('ada');
    expect(await near.closed).toEqual(FORBIDDEN);
    expect(await far.settle()).toEqual([]);
    two.way.heal();
    expect(await far.closed).toEqual(FORBIDDEN);
    const frames = [await far.next(), await far.next(), await far.next(), await far.next()];
    expect(frames).toMatchObject([
      { event: 'note', data: 1 },
      { channel: 'news', event: '$unsubscribed' },
      { event: 'note', data: 2 },
      { event: '$disconnect' },
    ]);
  });

  it('hold up no other: a user is gone from the rest within a second', async () => {
    const [one, two, three] = (await start(3)) as [Node, Node, Node];
    const [near, other, cutOff] = [await ada(one), await ada(two), await ada(three)];
    await cut(three);
    const watch = new Stopwatch();
    await one.realtime.disconnectUser('ada');
    expect(await Promise.all([near.closed, other.closed])).toEqual([FORBIDDEN, FORBIDDEN]);
    expect(watch.stop()).toBeLessThan(SOON_MS);
    await cutOff.close();
  });
});
