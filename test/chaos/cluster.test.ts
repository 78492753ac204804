import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { RedisKeys } from '../../lib/brokers/redis-keys.js';
import { RedisCluster, slotOf } from '../support/redis-cluster.js';
import { addresses, Installation, untilNone } from './support/installation.js';

const channels = Array.from({ length: 20 }, (_, i) => `feed.${i}`);
const [busy] = channels as [string];
const PEERS = { websocket: 12, sse: 12, eventSource: 6 };
const STREAM_MS = 50;
const SETTLE_MS = 60_000;

describe('two nodes at a Cluster of three masters', () => {
  let cluster: RedisCluster;
  let installation: Installation;

  beforeEach(async () => {
    cluster = await RedisCluster.start();
    installation = await Installation.start({ redis: { cluster: addresses(cluster.servers) }, nodes: 2 });
  }, 180_000);

  afterEach(async () => {
    await installation.dispose();
    await cluster.dispose();
  });

  it('deliver everything once and in order while the slot of a busy channel moves', async () => {
    const { ledger } = installation;
    const slot = slotOf(new RedisKeys('realtime', 256).meta(busy));
    await installation.follow(PEERS, channels, 5);
    await installation.startStream(channels, STREAM_MS);
    await installation.flows(busy);
    const owners = [await cluster.ownerOf(slot)];
    for (const move of ['away', 'on', 'again']) {
      ledger.during = `a slot moves ${move}`;
      const migration = await cluster.migrate(slot);
      await installation.flows(busy);
      await migration.moveKeys();
      await migration.end();
      await installation.flows(busy);
      owners.push(await cluster.ownerOf(slot));
    }
    for (const [i, owner] of owners.slice(1).entries()) expect(owner).not.toBe(owners[i]);
    const { last } = await installation.stopStream();
    expect(await untilNone(() => installation.behind(last), SETTLE_MS)).toEqual([]);
    expect(ledger.defects).toEqual([]);
    expect(ledger.losses).toEqual([]);
  }, 300_000);
});
