import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { RedisServer } from '../support/redis-server.js';
import { Installation, lasting, untilFound, untilNone, type HookRecord } from './support/installation.js';
import { RedisProxy } from './support/redis-proxy.js';

/** A fifth of an installation's 30 s: what takes two leases takes 12 s here. Redis stands still for longer than it. */
const LEASE_MS = 6_000;
const STOP_MS = 10_000;
const SHORT_STOP_MS = 4_000;
/** Claims, their repetition after a claimer died, and what is left to be caught up. */
const SETTLE_MS = 120_000;
/** How long disconnection hooks last: what kills a claimer has this time. */
const HOOK_MS = 300;
const HOP_EVERY_MS = 100;
/** Between two turns of a channel, each with one to three publications. */
const STREAM_MS = 200;

const channels = Array.from({ length: 20 }, (_, i) => `feed.${i}`);
const PEERS = { websocket: 120, sse: 120, eventSource: 60 };
const LEAVING = 60;

describe('three nodes, while machines die', () => {
  let server: RedisServer;
  let proxy: RedisProxy;
  let installation: Installation;
  let hopping: NodeJS.Timeout | undefined;
  let hops = 0;
  let killsOfClaimers: string[] = [];

  beforeEach(async () => {
    hops = 0;
    killsOfClaimers = [];
    server = await RedisServer.start({ config: ['appendonly', 'yes', 'appendfsync', 'always'] });
    proxy = await RedisProxy.start(server.port);
    const redis = { url: `redis://127.0.0.1:${proxy.port}` };
    installation = await Installation.start({ redis, nodes: 3, leaseMs: LEASE_MS, hookMs: HOOK_MS });
  }, 180_000);

  afterEach(async () => {
    clearInterval(hopping);
    server.signal('SIGCONT');
    await installation.dispose();
    await proxy.dispose();
    await server.dispose();
  });

  /** Publications come through on every channel. */
  async function flows(): Promise<void> {
    await Promise.all(channels.map((channel) => installation.flows(channel)));
  }

  async function killAndRestart(index: number): Promise<void> {
    await installation.killNode(index);
    await installation.startNode(index);
  }

  /** The node that ran the first disconnection hook for a node that was killed. */
  function claimerOf(dead: string): Promise<string> {
    const connections = new Set(
      installation
        .hooks()
        .filter(({ hook, node }) => hook === 'connect' && node === dead)
        .map(({ connection }) => connection),
    );
    const claim = (): string | undefined =>
      installation
        .hooks()
        .find(({ hook, node, connection }) => hook === 'disconnect' && node !== dead && connections.has(connection))
        ?.node;
    return untilFound(claim, `a claim of ${dead}`, SETTLE_MS);
  }

  /** Does something to the machines; resolves when publications reach peers again. */
  async function fault(name: string, cause: () => Promise<unknown>): Promise<void> {
    installation.ledger.during = name;
    await cause();
    await flows();
  }

  async function causeFaults(): Promise<void> {
    await fault('a node is killed and restarted', () => killAndRestart(0));
    await fault('Redis kills its subscribers', () => server.send('CLIENT', 'KILL', 'TYPE', 'pubsub'));
    await fault('connections for subscriptions are cut', async () => {
      expect(proxy.cutSubscriptions()).toBeGreaterThanOrEqual(3);
    });
    await fault('connections for subscriptions are silent', async () => {
      expect(proxy.silenceSubscriptions()).toBeGreaterThanOrEqual(3);
    });
    await fault('Redis stands still for longer than a lease, and a node dies meanwhile', async () => {
      server.signal('SIGSTOP');
      await installation.killNode(1);
      await lasting(STOP_MS);
      server.signal('SIGCONT');
      await installation.startNode(1);
    });
    await fault('Redis is killed and restarted', async () => {
      await server.kill();
      await server.start();
    });
    await fault('Redis stands still for less than a lease', async () => {
      server.signal('SIGSTOP');
      await lasting(SHORT_STOP_MS);
      server.signal('SIGCONT');
    });
    await fault('a node is killed, and so is the one that claims its connections', async () => {
      const dead = installation.nodes[2]!.name;
      await killAndRestart(2);
      const claimer = await claimerOf(dead);
      killsOfClaimers.push(claimer);
      await killAndRestart(installation.nodes.findIndex(({ name }) => name === claimer));
    });
    installation.ledger.during = 'the end';
  }

  /** What is wrong with the hooks that ran, given the connections that live. */
  function hookDefects(live: ReadonlySet<string>): string[] {
    const records = installation.hooks();
    const killedAt = new Map(installation.history.map(({ name, killedAt: at }) => [name, at]));
    const ends = new Map<string, HookRecord[]>();
    for (const record of records) {
      if (record.hook === 'disconnect') ends.set(record.connection, [...(ends.get(record.connection) ?? []), record]);
    }
    const defects: string[] = [];
    for (const { hook, connection, node } of records) {
      if (hook !== 'connect') continue;
      const runs = ends.get(connection) ?? [];
      const story = `${connection} of ${node}: ${JSON.stringify(runs)}`;
      if (live.has(connection)) {
        if (runs.length > 0) defects.push(`disconnected though it lives: ${story}`);
        continue;
      }
      if (runs.length === 0) defects.push(`no disconnection: ${story}`);
      for (const run of runs) {
        const diedAt = killedAt.get(node);
        if (run.node !== node && (diedAt === undefined || diedAt > run.at)) defects.push(`claimed alive: ${story}`);
        if (run === runs.at(-1)) continue;
        // A run that is not the last was not acknowledged: its node was killed while the hook ran.
        const runnerDiedAt = killedAt.get(run.node);
        if (runnerDiedAt === undefined || runnerDiedAt < run.at || runnerDiedAt > run.at + 10 * HOOK_MS) {
          defects.push(`disconnected again, though the first to do so lived: ${story}`);
        }
      }
    }
    return defects;
  }

  /** The claims and the connections of dead nodes that are still in Redis. */
  async function unsettled(): Promise<string[]> {
    const nodes = (await server.send('ZRANGEBYSCORE', 'realtime:{lease}:nodes', '0', '+inf')).split('\n');
    const left = (await server.send('KEYS', 'realtime:*')).split('\n');
    return left.filter((key) => {
      if (key.endsWith('}:claims')) return true;
      const owner = /\}:n:(.*)$/.exec(key)?.[1];
      return owner !== undefined && !nodes.includes(owner);
    });
  }

  async function presenceDefects(): Promise<string[]> {
    const { nodes, followers } = installation;
    const defects: string[] = [];
    for (const { name, ...node } of nodes.map((app) => ({ name: app.name, ask: app.ask.bind(app) }))) {
      const presences = await node.ask<{ id: string; connections: number }[][]>('presence', { channels });
      presences.forEach((members, i) => {
        const there = new Map(members.map(({ id, connections }) => [id, connections]));
        const channel = channels[i]!;
        const wanted = new Set(
          followers.filter((follower) => follower.channels.includes(channel)).map(({ member }) => member),
        );
        for (const member of wanted) {
          const connections = there.get(member);
          if (connections !== 1) defects.push(`${name}: ${channel} has ${member} with ${connections} connections`);
        }
        for (const member of there.keys()) if (!wanted.has(member)) defects.push(`${name}: ${channel} has ${member}`);
      });
      const registered = new Set(await node.ask<string[]>('connections'));
      const live = new Set(followers.map(({ connection }) => connection));
      for (const id of live) if (!registered.has(id)) defects.push(`${name}: the registry lacks ${id}`);
      for (const id of registered) if (!live.has(id)) defects.push(`${name}: the registry has ${id}`);
    }
    return defects;
  }

  it('delivers everything once and in order, and runs every disconnection hook', async () => {
    const { ledger, followers, balancer } = installation;
    await installation.follow(PEERS, channels, 3);
    await installation.startStream(channels, STREAM_MS);
    hopping = setInterval(() => (hops += balancer.hop(1)), HOP_EVERY_MS);
    await flows();
    await causeFaults();
    clearInterval(hopping);
    const { last, retries } = await installation.stopStream();

    expect(await untilNone(() => installation.behind(last), SETTLE_MS)).toEqual([]);
    expect(ledger.defects).toEqual([]);
    expect(ledger.losses).toEqual([]);

    for (const follower of followers.splice(0, LEAVING)) follower.close();
    expect(await untilNone(unsettled, SETTLE_MS)).toEqual([]);
    expect(await untilNone(presenceDefects, SETTLE_MS)).toEqual([]);
    const live = new Set(followers.map(({ connection }) => connection));
    expect(await untilNone(() => hookDefects(live), SETTLE_MS)).toEqual([]);
    expect(ledger.defects).toEqual([]);
    expect(ledger.losses).toEqual([]);

    if (process.env.CHAOS_FIGURES !== undefined) {
      const hooks = installation.hooks();
      const ends = hooks.filter(({ hook }) => hook === 'disconnect');
      console.info({
        peers: followers.length + LEAVING,
        published: Object.values(last).reduce((sum, n) => sum + n, 0),
        delivered: ledger.delivered,
        retries,
        hops,
        connections: hooks.length - ends.length,
        live: live.size,
        disconnections: ends.length,
        claimed: ends.filter(({ reason }) => reason === 'lease_lost').length,
        repeated: ends.length - new Set(ends.map(({ connection }) => connection)).size,
        killed: installation.history.filter(({ killedAt }) => killedAt !== undefined).map(({ name }) => name),
        killsOfClaimers,
      });
    }
  }, 600_000);
});
