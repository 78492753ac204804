import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { redisBroker } from '../../lib/brokers/redis.broker.js';
import type { RedisBrokerOptions } from '../../lib/brokers/redis-options.js';
import type { AppendItem, Retention } from '../../lib/hub/ports/broker.js';
import { parsePosition, type Position } from '../../lib/protocol/position.js';
import { MAX_REVOCATIONS, revocationKey } from '../../lib/hub/ports/revocation.js';
import { RecordingNode } from '../support/recording-node.js';
import { RedisServer, until } from '../support/redis-server.js';
import { Stopwatch } from '../support/stopwatch.js';

const KEEP: Retention = { size: 100, ttlMs: 60_000, metaTtlMs: 120_000 };
const TIMEOUT_MS = 1_000;
/** For calls that are to be refused soon; all others may wait for a busy machine. */
const SOON = { publishTimeoutMs: TIMEOUT_MS };
/** A call settles within its timeout and 2 s; the rest is the test machine's. */
const SETTLE_MS = TIMEOUT_MS + 2_000 + 500;

function item(data: unknown, extra: Partial<AppendItem> = {}): AppendItem {
  return { event: 'e', data: JSON.stringify(data), ...extra };
}

describe('redis away and back', () => {
  let server: RedisServer;
  let nodes: RecordingNode[];

  async function open(name: string, options: Partial<RedisBrokerOptions> = {}): Promise<RecordingNode> {
    const broker = redisBroker({ url: server.url, publishTimeoutMs: 30_000, ...options });
    const node = await RecordingNode.open(broker, name);
    nodes.push(node);
    return node;
  }

  async function append(node: RecordingNode, data: unknown, channel = 'c'): Promise<Position> {
    const { results } = await node.session.append(channel, KEEP, 'k1', [item(data)]);
    return results[0]!.position;
  }

  const epochOf = (position: Position): string => parsePosition(position)!.epoch;

  async function outcomeOf(call: Promise<unknown>): Promise<string> {
    return call.then(
      () => 'applied',
      (error: unknown) => (error as { code: string }).code,
    );
  }

  beforeEach(async () => {
    server = await RedisServer.start();
    nodes = [];
  });

  afterEach(async () => {
    server.signal('SIGCONT');
    await Promise.all(nodes.map((node) => node.session.close()));
    await server.dispose();
  });

  test('D8.1 rejects with broker_unavailable in time while nobody listens, and goes on when Redis is back', async () => {
    const [a, b] = [await open('a', SOON), await open('b', SOON)];
    await b.session.subscribe('c');
    const before = await append(a, 1);
    await server.kill();
    await until(async () => (await outcomeOf(append(a, 2))) === 'broker_unavailable', 'certainty');
    const watch = new Stopwatch();
    expect(await outcomeOf(append(a, 3))).toBe('broker_unavailable');
    expect(await outcomeOf(a.session.read('c', before, 10))).toBe('broker_unavailable');
    expect(await outcomeOf(b.session.subscribe('d'))).toBe('broker_unavailable');
    expect(watch.stop()).toBeLessThan(4 * SETTLE_MS);
    await server.start();
    await b.until(() => b.resumed > 0, 'the resumption');
    // Nothing was persisted: another epoch, and subscriptions are in force.
    const after = await append(a, 4);
    expect(epochOf(after)).not.toBe(epochOf(before));
    await b.until(() => b.envelopesOf('c').at(-1)?.items[0]?.data === '4', 'the publication');
    expect((await a.session.read('c', before, 10)).status).toBe('epoch');
  });

  test('D8.1 waits for Redis up to publishTimeoutMs, in the order of the calls', async () => {
    const [a, b] = [await open('a'), await open('b', SOON)];
    await a.session.subscribe('c');
    await server.kill();
    await until(async () => (await outcomeOf(append(b, 0))) === 'broker_unavailable', 'certainty');
    const appends = Promise.all([1, 2, 3, 4].map((n) => append(a, n)));
    await server.start();
    const offsets = (await appends).map((position) => parsePosition(position)!.offset);
    expect(offsets).toEqual([1, 2, 3, 4]);
    expect((await a.session.newest('c', 10)).items.map(({ data }) => data)).toEqual(['1', '2', '3', '4']);
  });

  test('D8.1 settles every call in time when Redis stands still, and says outcome_unknown of what was sent', async () => {
    const a = await open('a', SOON);
    await append(a, 1);
    server.signal('SIGSTOP');
    const watch = new Stopwatch();
    const outcomes = await Promise.all([
      outcomeOf(append(a, 2)),
      outcomeOf(a.session.read('c', null, 10)),
      outcomeOf(a.session.append('c', KEEP, 'k2', [item(3, { key: 'x' })])),
      outcomeOf(a.session.join('c', { connection: 'c1', member: 'ann', info: null })),
    ]);
    expect(outcomes).toEqual(['outcome_unknown', 'broker_unavailable', 'outcome_unknown', 'outcome_unknown']);
    expect(watch.stop()).toBeLessThan(SETTLE_MS);
    server.signal('SIGCONT');
    await a.until(() => a.resumed > 0, 'the resumption');
    expect(parsePosition(await append(a, 4))!.offset).toBeGreaterThan(1);
  });

  test('P7 tries an append whose publications all have keys again, and applies it once', async () => {
    const [a, b] = [await open('a'), await open('b', SOON)];
    await append(a, 1);
    server.signal('SIGSTOP');
    const appended = a.session.append('c', KEEP, 'k2', [item(2, { key: 'x' })]);
    // Takes as long as a connection may be silent, so that the other call has been tried again.
    expect(await outcomeOf(append(b, 3, 'd'))).toBe('outcome_unknown');
    server.signal('SIGCONT');
    await appended;
    const { items } = await a.session.newest('c', 10);
    expect(items.filter(({ data }) => data === '2')).toHaveLength(1);
  }, 120_000);

  test('P14 refuses publications past 64 MiB instead of keeping them', async () => {
    const a = await open('a', SOON);
    await server.kill();
    const data = 'x'.repeat(1024 * 1024);
    const outcomes = await Promise.all(Array.from({ length: 100 }, () => outcomeOf(append(a, data))));
    expect(outcomes.filter((outcome) => outcome === 'applied')).toEqual([]);
    const settled: number[] = [];
    const last = Array.from({ length: 100 }, async (_, i) => {
      const outcome = await outcomeOf(append(a, data));
      settled.push(i);
      return outcome;
    });
    expect(await last[99]).toBe('broker_unavailable');
    // Refused at once: what is kept waits for Redis meanwhile.
    expect(settled).not.toContain(0);
    expect(settled.length).toBeGreaterThanOrEqual(100 - 64);
    await Promise.all(last);
  });

  test('W12 takes no more than 100,000 revocations, but those of what is revoked already', async () => {
    // 100,000 at once are much for a slow machine, and are asked for again.
    const a = await open('a');
    const until = Date.now() + 600_000;
    const fill = `for i = 1, ${MAX_REVOCATIONS} do redis.call('ZADD', KEYS[1], ARGV[1], 't:' .. i) end`;
    await server.send('EVAL', fill, 1, 'realtime:{revoked}:until', until);
    expect(await outcomeOf(a.session.revoke([{ user: 'ann', until, before: 1 }]))).toBe('broker_unavailable');
    await a.session.revoke([{ token: '7', until: until + 1 }]);
    const all = await a.session.revocations();
    expect(new Set(all.map(revocationKey)).size).toBe(MAX_REVOCATIONS);
    expect(all[0]).toEqual({ token: '7', until: until + 1 });
    await server.send('DEL', 'realtime:{revoked}:until');
    await a.session.revoke([{ user: 'ann', until, before: 1 }]);
  });

  test('D2.4 resumes after the connections for pub/sub were killed: all names are in force again', async () => {
    const [a, b] = [await open('a'), await open('b')];
    const channels = Array.from({ length: 1_200 }, (_, i) => `c${i}`);
    await Promise.all(channels.map((channel) => b.session.subscribe(channel)));
    await server.send('CLIENT', 'KILL', 'TYPE', 'pubsub');
    await b.until(() => b.resumed > 0, 'the resumption');
    await Promise.all(channels.map((channel) => append(a, 1, channel)));
    await b.until(() => b.envelopes.length === channels.length, 'an envelope of each channel');
  });

  test('does not resume what was unsubscribed meanwhile', async () => {
    const [a, b] = [await open('a'), await open('b')];
    await Promise.all([b.session.subscribe('c'), b.session.subscribe('d')]);
    await server.send('CLIENT', 'KILL', 'TYPE', 'pubsub');
    await b.session.unsubscribe('c');
    await b.until(() => b.resumed > 0, 'the resumption');
    await append(a, 1, 'c');
    await append(a, 1, 'd');
    await b.until(() => b.envelopesOf('d').length === 1, 'the envelope');
    expect(b.envelopesOf('c')).toEqual([]);
  });

  test('goes on when Redis has forgotten the scripts', async () => {
    const a = await open('a');
    await append(a, 1);
    await server.send('SCRIPT', 'FLUSH');
    const positions = await Promise.all([2, 3, 4].map((n) => append(a, n)));
    expect(positions.map((position) => parsePosition(position)!.offset)).toEqual([2, 3, 4]);
    expect((await a.session.newest('c', 10)).items).toHaveLength(4);
  });

  test('resumes, and finds what was appended, after every connection was killed', async () => {
    const [a, b] = [await open('a'), await open('b')];
    await b.session.subscribe('c');
    const before = await append(a, 1);
    await server.send('CLIENT', 'KILL', 'TYPE', 'normal');
    await server.send('CLIENT', 'KILL', 'TYPE', 'pubsub');
    await until(async () => (await outcomeOf(append(a, 2))) === 'applied', 'an append');
    await b.until(() => b.resumed > 0, 'the resumption');
    const { status, items } = await b.session.read('c', before, 10);
    expect(status).toBe('ok');
    expect(items.length).toBeGreaterThan(0);
  });

  test('P12 tells connections and members again to a Redis that was wiped', async () => {
    const [a, b] = [await open('a', { leaseMs: 1_200 }), await open('b', { leaseMs: 1_200 })];
    const info = {
      id: 'c1',
      node: 'a',
      transport: 'sse',
      ip: '::1',
      endpoint: '0:/realtime',
      params: {},
      openedAt: 0,
      channels: ['c'],
    };
    await a.session.register({ id: 'c1', info: () => info });
    await a.session.join('c', { connection: 'c1', member: 'ann', info: { n: 1 } });
    await server.send('FLUSHALL');
    await until(async () => (await b.session.presence('c')).count === 1, 'the member');
    await until(async () => (await b.session.connections({})).length === 1, 'the connection');
    expect((await b.session.presence('c')).users).toEqual([{ id: 'ann', info: { n: 1 }, connections: 1 }]);
  });

  test('closes at once while Redis is away', async () => {
    const a = await open('a', { publishTimeoutMs: 60_000 });
    await a.session.join('c', { connection: 'c1', member: 'ann', info: null });
    await server.kill();
    const waiting = outcomeOf(a.session.leave('c', 'c1', 0));
    await a.session.close();
    expect(await waiting).toMatch(/broker_unavailable|outcome_unknown/);
  });

  test('refuses to start without Redis, saying where it looked', async () => {
    await server.kill();
    const opening = open('a');
    await expect(opening).rejects.toMatchObject({ code: 'broker_unavailable' });
    await expect(opening).rejects.toThrow(/^redisBroker: .*ECONNREFUSED 127\.0\.0\.1:/);
  });

  test('refuses to start on the keys of a version with other partitions', async () => {
    await server.send('HSET', 'realtime:config', 'partitions', 64);
    await expect(open('a')).rejects.toThrow(/64 partitions/);
  });
});
