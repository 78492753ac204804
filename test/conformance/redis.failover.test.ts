import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { RedisKeys } from '../../lib/brokers/redis-keys.js';
import { redisBroker } from '../../lib/brokers/redis.broker.js';
import type { AppendItem, Retention } from '../../lib/hub/ports/broker.js';
import { parsePosition, type Position } from '../../lib/protocol/position.js';
import { RecordingNode } from '../support/recording-node.js';
import { RedisCluster, slotOf } from '../support/redis-cluster.js';
import { RedisSentinel } from '../support/redis-sentinel.js';
import { until } from '../support/redis-server.js';

const KEEP: Retention = { size: 1_000_000, ttlMs: 60_000, metaTtlMs: 120_000 };
const keys = new RedisKeys('realtime', 256);

function item(data: unknown): AppendItem {
  return { event: 'e', data: JSON.stringify(data) };
}

async function append(node: RecordingNode, data: unknown, channel = 'c', tag = 'k1'): Promise<Position> {
  const { results } = await node.session.append(channel, KEEP, tag, [item(data)]);
  return results[0]!.position;
}

const applies = (node: RecordingNode, channel = 'c'): Promise<boolean> =>
  append(node, 'probe', channel).then(
    () => true,
    () => false,
  );

describe('redis, Sentinel', () => {
  let sentinel: RedisSentinel;
  let a: RecordingNode;
  let b: RecordingNode;

  beforeEach(async () => {
    sentinel = await RedisSentinel.start();
    const open = (name: string): Promise<RecordingNode> =>
      RecordingNode.open(redisBroker({ client: sentinel.client() }), name);
    [a, b] = [await open('a'), await open('b')];
  }, 120_000);

  afterEach(async () => {
    await Promise.all([a, b].map((node) => node.session.close()));
    await sentinel.dispose();
  });

  test('D2.4, P5 follows the master, resumes, and serves what was replicated', async () => {
    await b.session.subscribe('c');
    const [first] = [await append(a, 1), await append(a, 2)];
    await (await sentinel.master()).send('WAIT', 2, 1_000);
    await sentinel.failOver();
    await until(() => applies(a), 'an append');
    await b.until(() => b.resumed > 0, 'the resumption');
    const { status, items } = await b.session.read('c', first, 100);
    expect(status).toBe('ok');
    expect(items[0]?.data).toBe('2');
    await append(a, 'after');
    await b.until(() => b.envelopesOf('c').at(-1)?.items[0]?.data === '"after"', 'the publication');
  }, 180_000);

  test('P5 tells positions in a tail that was not replicated', async () => {
    const kept = await append(a, 1, 'c', 't1');
    const master = await sentinel.master();
    await master.send('WAIT', 2, 1_000);
    const replicas = sentinel.servers.filter((server) => server !== master);
    // They cannot connect again to a master that cut them off.
    for (const replica of replicas) replica.signal('SIGSTOP');
    await master.send('CLIENT', 'KILL', 'TYPE', 'replica');
    const lost = await append(a, 2, 'c', 't2');
    await sentinel.watch();
    await master.kill();
    for (const replica of replicas) replica.signal('SIGCONT');
    await sentinel.replaced(master);
    await until(() => applies(a), 'an append');
    expect(parsePosition(lost)!.offset).toBe(2);
    expect((await b.session.read('c', kept, 10)).status).toBe('ok');
    expect((await b.session.read('c', lost, 10)).status).toBe('diverged');
  }, 180_000);
});

describe('redis, a cluster', () => {
  let cluster: RedisCluster;
  let a: RecordingNode;
  let b: RecordingNode;

  beforeEach(async () => {
    cluster = await RedisCluster.start();
    const open = (name: string): Promise<RecordingNode> =>
      RecordingNode.open(redisBroker({ client: cluster.client() }), name);
    [a, b] = [await open('a'), await open('b')];
  }, 120_000);

  afterEach(async () => {
    await Promise.all([a, b].map((node) => node.session.close()));
    await cluster.dispose();
  });

  test('P1, D2.4 appends without gap or repetition while a slot moves, and resumes on the new master', async () => {
    await b.session.subscribe('c');
    const first = await append(a, 0);
    let stop = false;
    let count = 0;
    const stream = (async () => {
      while (!stop) await append(a, ++count);
    })();
    const migration = await cluster.migrate(slotOf(keys.meta('c')));
    await b.until(() => b.envelopes.length > 5, 'envelopes before the move');
    await migration.moveKeys();
    await migration.end();
    await b.until(() => b.resumed > 0, 'the resumption');
    const before = b.envelopes.length;
    await b.until(() => b.envelopes.length > before + 5, 'envelopes of the new master');
    stop = true;
    await stream;
    const { status, items } = await b.session.read('c', first, 1_000_000);
    expect(status).toBe('ok');
    const stored = items.map(({ data }) => Number(data));
    expect(stored).toEqual(Array.from({ length: stored.length }, (_, i) => count - stored.length + 1 + i));
    expect(await migration.to.send('EXISTS', keys.meta('c'))).toBe('1');
  }, 180_000);

  test('D8.1 goes on in the other shards when a master is away, and with it when it is back', async () => {
    const channels = Array.from({ length: 60 }, (_, i) => `c${i}`);
    await Promise.all(channels.map((channel) => b.session.subscribe(channel)));
    await Promise.all(channels.map((channel) => append(a, 1, channel)));
    await b.until(() => b.envelopes.length === channels.length, 'an envelope of each channel');
    const victim = await cluster.ownerOf(slotOf(keys.meta('c0')));
    const owners = await Promise.all(channels.map((channel) => cluster.ownerOf(slotOf(keys.meta(channel)))));
    await victim.kill();
    const outcomes = await Promise.all(channels.map((channel) => applies(a, channel)));
    expect(outcomes).toEqual(owners.map((owner) => owner !== victim));
    await victim.start();
    await until(() => applies(a, 'c0'), 'an append');
    await b.until(() => b.resumed > 0, 'the resumption');
    const before = b.envelopes.length;
    await Promise.all(channels.map((channel) => append(a, 2, channel)));
    await b.until(() => b.envelopes.length >= before + channels.length, 'an envelope of each channel');
  }, 180_000);
});
