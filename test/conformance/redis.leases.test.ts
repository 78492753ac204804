import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { redisBroker } from '../../lib/brokers/redis.broker.js';
import type { RedisBrokerOptions } from '../../lib/brokers/redis-options.js';
import type { ConnectionInfo, RegisteredConnection } from '../../lib/hub/ports/broker.js';
import { RecordingNode } from '../support/recording-node.js';
import { RedisServer, until } from '../support/redis-server.js';
import { TcpLink } from '../../lib/testing/tcp-link.js';
import { unhurried } from '../support/unhurried.js';

/** The lease of a first run, and the longest that a machine is given which pauses for longer. */
const LEASE_MS = 800;
const MAX_LEASE_MS = 16 * LEASE_MS;
/** For which share of a lease a process may stand still: past it frames are held, and soon the lease is in doubt. */
const PAUSE = 1 / 8;
const TIMEOUT_MS = 240_000;

function connection(id: string, node: string, channels: string[] = []): RegisteredConnection {
  const info: ConnectionInfo = {
    id,
    node,
    transport: 'sse',
    ip: '::1',
    endpoint: '0:/',
    params: {},
    openedAt: 0,
    channels,
  };
  return { id, info: () => info };
}

describe('leases in redis', () => {
  let leaseMs: number;
  let server: RedisServer;
  /** The way of `a` and `b`. */
  let way: TcpLink;
  let proxy: TcpLink;
  let nodes: RecordingNode[];
  let sweeping: NodeJS.Timeout;
  let a: RecordingNode;
  let b: RecordingNode;
  /** The node behind `proxy`, which can be cut off. */
  let c: RecordingNode;

  async function open(name: string, port: number, options: Partial<RedisBrokerOptions> = {}): Promise<RecordingNode> {
    const broker = redisBroker({
      url: `redis://127.0.0.1:${port}`,
      leaseMs,
      publishTimeoutMs: 500,
      ...options,
    });
    const node = await RecordingNode.open(broker, name);
    nodes.push(node);
    return node;
  }

  /** Time in which nothing may happen, as the store sees it. */
  function pass(leases: number): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, leases * leaseMs));
  }

  const claimsOf = (...told: RecordingNode[]): string[] =>
    told.flatMap(({ claims }) => claims.map(({ connection: { id }, attempt }) => `${id} ${attempt}`)).sort();
  const claimed = (count: number, ...told: RecordingNode[]): Promise<void> =>
    until(() => claimsOf(...told).length >= count, `${count} claims`);

  /** The ids of the connections, once they are so many: those of a node whose beat is late are left out. */
  async function listed(count: number, node = a): Promise<string[]> {
    let ids: string[] = [];
    const enough = async (): Promise<boolean> => {
      ids = (await node.session.connections({})).map(({ id }) => id).sort();
      return ids.length === count;
    };
    await until(enough, `${count} connections`);
    return ids;
  }

  async function setUp(): Promise<void> {
    // What Redis has answered is written, and outlives its process.
    server = await RedisServer.start({ config: ['appendonly', 'yes', 'appendfsync', 'no'] });
    [way, proxy] = [await TcpLink.open(server.port), await TcpLink.open(server.port)];
    nodes = [];
    [a, b, c] = [await open('a', way.port), await open('b', way.port), await open('c', proxy.port)];
    sweeping = setInterval(() => {
      for (const { session } of nodes) session.sweep().catch(() => undefined);
    }, 20);
  }

  async function tearDown(): Promise<void> {
    clearInterval(sweeping);
    server.signal('SIGCONT');
    await Promise.all(nodes.map((node) => node.session.close()));
    await Promise.all([way.close(), proxy.close()]);
    await server.dispose();
  }

  beforeEach(() => {
    leaseMs = LEASE_MS;
    return setUp();
  });

  afterEach(tearDown);

  /** A test whose times are leases. */
  function leased(title: string, act: () => Promise<void>): void {
    const reset = async (): Promise<void> => {
      await tearDown();
      leaseMs *= 4;
      await setUp();
    };
    const options = { unitMs: LEASE_MS, maxUnitMs: MAX_LEASE_MS, pause: PAUSE, reset };
    test(title, () => unhurried(options, act), TIMEOUT_MS);
  }

  leased('D7.3, D7.4, P10 claims the connections of a dead node, each once, and applies their departures', async () => {
    const ids = Array.from({ length: 600 }, (_, i) => `c${i}`);
    await Promise.all(ids.map((id) => c.session.register(connection(id, 'c', ['room']))));
    await c.session.join('room', { connection: 'c1', member: 'ann', info: null });
    await c.session.join('room', { connection: 'c2', member: 'bob', info: null });
    await a.session.register(connection('a1', 'a'));
    await a.session.join('room', { connection: 'a1', member: 'bob', info: null });
    expect(await b.session.countElsewhere(['a:0:0:0:0::/64'])).toEqual([ids.length + 1]);
    proxy.cut();
    await claimed(ids.length, a, b);
    await until(
      async () => (await b.session.countElsewhere(['a:0:0:0:0::/64']))[0] === 1,
      'the count without the dead',
    );
    await until(async () => (await a.session.presence('room')).count === 1, 'the departure');
    expect((await a.session.presence('room')).users).toEqual([{ id: 'bob', info: null, connections: 1 }]);
    expect(await listed(1, b)).toEqual(['a1']);
    await pass(2.5);
    expect(claimsOf(a, b)).toEqual(ids.map((id) => `${id} 1`).sort());
    expect(a.claims[0]?.connection ?? b.claims[0]?.connection).toMatchObject({ node: 'c', channels: ['room'] });
  });

  leased('D7.4 leaves nothing of a connection that joined and left, or is over', async () => {
    await c.session.register(connection('c1', 'c'));
    await c.session.register(connection('c2', 'c'));
    await c.session.join('room', { connection: 'c2', member: 'ann', info: null });
    await c.session.unregister('c1');
    // Its hooks have run, and only its member is still there.
    await c.session.unregister('c2');
    expect(await a.session.connections({})).toEqual([]);
    proxy.cut();
    await until(async () => (await a.session.presence('room')).count === 0, 'the departure');
    await pass(2);
    expect(claimsOf(a, b)).toEqual([]);
  });

  leased('D7.4, P12 applies a departure of a dead node that was under way, when it is due', async () => {
    const departures = 'realtime:{lease}:departures';
    const graceMs = 8 * leaseMs;
    await c.session.register(connection('c1', 'c'));
    for (const [id, member] of [
      ['c1', 'ann'],
      ['c2', 'bob'],
    ] as const) {
      await c.session.join('room', { connection: id, member, info: null });
    }
    // Its second step fails, as if the node had died before.
    await server.send('SET', departures, 'in the way');
    await expect(c.session.leave('room', 'c1', graceMs)).rejects.toMatchObject({ code: 'broker_unavailable' });
    proxy.cut();
    await server.send('DEL', departures);
    await claimed(1, a, b);
    await until(async () => (await server.send('ZCARD', departures)) === '1', 'the departure');
    expect((await a.session.presence('room')).users).toContainEqual({ id: 'ann', info: null, connections: 0 });
    await until(async () => (await a.session.presence('room')).count === 1, 'its end');
  });

  leased('D7.1 writes connections that came while Redis was away, and those that come later', async () => {
    // Nobody looks for dead nodes, however long the cut lasts here.
    clearInterval(sweeping);
    sweeping = setInterval(() => void c.session.sweep(false).catch(() => undefined), 20);
    proxy.cut();
    await expect(c.session.register(connection('c1', 'c'))).rejects.toThrow(/Redis/);
    proxy.heal();
    expect(await listed(1)).toEqual(['c1']);
    await until(async () => (await a.session.countElsewhere(['a:0:0:0:0::/64']))[0] === 1, 'its count');
    await c.session.register(connection('c2', 'c'));
    expect(await listed(2)).toEqual(['c1', 'c2']);
  });

  leased(
    'D7.2, P11 fences a node that was taken for dead: its hooks are not its own, it goes on under another id',
    async () => {
      await c.session.register(connection('c1', 'c'));
      proxy.cut();
      await claimed(1, a, b);
      const holds = c.session.holdsLease();
      proxy.heal();
      expect(await holds).toBe(false);
      expect(c.fenced).toBe(1);
      expect(await c.session.holdsLease()).toBe(true);
      await c.session.register(connection('c2', 'c-1'));
      expect(await listed(1)).toEqual(['c2']);
      expect((await a.session.connections({})).map(({ node }) => node)).toEqual(['c-1']);
      await pass(2.5);
      expect(claimsOf(a, b)).toEqual(['c1 1']);
    },
  );

  leased('D7.2 lets hooks wait while the lease is in doubt, and run when it is not lost', async () => {
    await c.session.register(connection('c1', 'c'));
    expect(await c.session.holdsLease()).toBe(true);
    clearInterval(sweeping); // nobody looks for dead nodes
    proxy.cut();
    await pass(1);
    let answer: boolean | undefined;
    const asked = c.session.holdsLease().then((held) => (answer = held));
    await a.session.tops(['c']);
    expect(answer).toBeUndefined();
    proxy.heal();
    await asked;
    expect(answer).toBe(true);
    expect(c.fenced).toBe(0);
  });

  leased("D7.2 has frames held with onIsolation: 'fence', until Redis answers", async () => {
    const fencing = await open('f', proxy.port, { onIsolation: 'fence' });
    proxy.cut();
    await fencing.until(() => fencing.holds.length === 1, 'the hold');
    proxy.heal();
    await fencing.until(() => fencing.holds.length === 2, 'its end');
    expect(fencing.holds).toEqual([true, false]);
    expect(c.holds).toEqual([]);
  });

  test('D7.2 has frames held after the process stood still, until Redis answers', async () => {
    // The machine may pause by itself, before and after.
    await a.until(() => a.holds.length % 2 === 0, 'the end of a hold');
    const before = a.holds.length;
    const end = performance.now() + leaseMs / 2;
    while (performance.now() < end); // nothing else runs
    await a.until(() => a.holds.length >= before + 2, 'the hold and its end');
    expect(a.holds.slice(before, before + 2)).toEqual([true, false]);
    expect(a.fenced).toBe(0);
  });

  const absences: Record<string, [() => Promise<void>, () => Promise<void>]> = {
    'stood still': [async () => server.signal('SIGSTOP'), async () => server.signal('SIGCONT')],
    'was restarted': [() => server.kill(), () => server.start()],
  };
  for (const [name, [stop, start]] of Object.entries(absences)) {
    leased(`P10 claims nobody after Redis ${name} for longer than the lease`, async () => {
      await c.session.register(connection('c1', 'c'));
      await a.session.register(connection('a1', 'a'));
      await stop();
      await pass(2);
      await start();
      await until(() => c.session.holdsLease(), 'a beat');
      await pass(2.5);
      expect(claimsOf(a, b, c)).toEqual([]);
      expect([a, b, c].map(({ fenced }) => fenced)).toEqual([0, 0, 0]);
      expect(await listed(2)).toEqual(['a1', 'c1']);
    });
  }

  const failures: Record<string, () => Promise<void>> = {
    rejects: () => Promise.reject(new Error('the hook failed')),
    'never ends': () => new Promise(() => undefined),
  };
  for (const [name, hook] of Object.entries(failures)) {
    leased(`D7.4 claims again where the hook ${name}`, async () => {
      for (const node of [a, b]) node.onClaim = ({ attempt }) => (attempt === 1 ? hook() : Promise.resolve());
      await c.session.register(connection('c1', 'c'));
      proxy.cut();
      await claimed(2, a, b);
      expect(claimsOf(a, b)).toEqual(['c1 1', 'c1 2']);
      await pass(2.5);
      expect(claimsOf(a, b)).toHaveLength(2);
    });
  }

  leased('D7.4, P10 does not claim again where Redis went away after the hook', async () => {
    for (const node of [a, b]) {
      node.onClaim = () => server.kill();
    }
    await c.session.register(connection('c1', 'c'));
    proxy.cut();
    await claimed(1, a, b);
    // Its nodes come back once it has been seen that Redis still knows of the claim.
    way.cut();
    await pass(3);
    await server.start();
    expect(await server.send('KEYS', '*}:claims')).not.toBe('');
    way.heal();
    await until(async () => (await server.send('KEYS', '*}:claims')) === '', 'the end of the claim');
    await pass(2.5);
    expect(claimsOf(a, b)).toEqual(['c1 1']);
  });

  leased('D7.4 has nobody claim who cannot run hooks', async () => {
    clearInterval(sweeping);
    sweeping = setInterval(() => void a.session.sweep(false).catch(() => undefined), 20);
    await c.session.register(connection('c1', 'c'));
    proxy.cut();
    await pass(2.5);
    expect(claimsOf(a, b)).toEqual([]);
    await until(() => b.session.sweep().then(() => claimsOf(b).length === 1), 'the claim');
    expect(claimsOf(a, b)).toEqual(['c1 1']);
  });

  leased('D7.4 claims again where the claimer died', async () => {
    const d = await open('d', server.port);
    const second = await TcpLink.open(server.port);
    try {
      const e = await open('e', second.port);
      clearInterval(sweeping);
      sweeping = setInterval(() => void e.session.sweep().catch(() => undefined), 20);
      e.onClaim = () => new Promise<void>(() => undefined);
      await c.session.register(connection('c1', 'c'));
      proxy.cut();
      await claimed(1, e);
      second.cut();
      clearInterval(sweeping);
      sweeping = setInterval(() => void d.session.sweep().catch(() => undefined), 20);
      await claimed(1, d);
      expect(claimsOf(d)).toEqual(['c1 2']);
    } finally {
      await second.close();
    }
  });

  leased('D7.1 claims nothing of a node that closed', async () => {
    await c.session.register(connection('c1', 'c'));
    await c.session.close();
    await pass(2.5);
    expect(claimsOf(a, b)).toEqual([]);
    expect(await server.send('ZCARD', 'realtime:{lease}:nodes')).toBe('2');
  });
});
