import type { Redis } from 'ioredis';
import { RealtimeException } from '../protocol/errors.js';
import type { RedisClient } from './redis-client.js';

/** Names in one command. */
const NAMES_PER_COMMAND = 500;
/** How soon a command that was refused, or a shard that nobody knew, is tried again. */
const RETRY_MS = 100;

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: RealtimeException) => void;
}

/** A pub/sub name that is wanted. */
interface Wanted {
  readonly partition: number;
  readonly receive: (message: Buffer) => void;
  waiters: Waiter[];
}

/** One connection and the names whose subscription was asked for on it. */
interface Lane {
  readonly redis: Redis;
  readonly names: Set<string>;
}

/**
 * This node's pub/sub names. Subscribes those of a turn in one command, and all of them again on each new connection:
 * one connection, or in a Cluster one for each master that has any of them. Where announcements may have been lost,
 * `resumed` is called once every name is in force again.
 */
export class RedisSubscriber {
  private readonly wanted = new Map<string, Wanted>();
  private readonly lanes = new Map<string, Lane>();
  /** Names to subscribe or to unsubscribe, by what is wanted when it comes to it. */
  private pending = new Set<string>();
  private scheduled = false;
  private timer: NodeJS.Timeout | undefined;
  private interrupted = false;
  private inFlight = 0;
  private closed = false;

  constructor(
    private readonly client: RedisClient,
    private readonly timeoutMs: number,
    private readonly resumed: () => void,
  ) {
    // Other masters may have the slots now. Where they do not, nothing happens.
    if (client.sharded) client.redis.on('refresh', () => this.reassign());
  }

  /** Resolves once messages of the name arrive; rejects with `broker_unavailable` after the time for it. */
  subscribe(name: string, partition: number, receive: (message: Buffer) => void): Promise<void> {
    if (this.closed) return Promise.reject(new RealtimeException('broker_unavailable', 'The session is closed'));
    return new Promise((resolve, reject) => {
      const wanted: Wanted = { partition, receive, waiters: this.wanted.get(name)?.waiters ?? [] };
      const timer = setTimeout(() => {
        if (this.wanted.get(name) === wanted) this.drop(name);
        reject(new RealtimeException('broker_unavailable', 'Redis did not take the subscription in time'));
      }, this.timeoutMs).unref();
      wanted.waiters.push({
        resolve: () => {
          clearTimeout(timer);
          resolve();
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
      this.wanted.set(name, wanted);
      this.schedule(name);
    });
  }

  /** Ends a subscription. Nothing of the name is received from now on. */
  unsubscribe(name: string): void {
    if (this.wanted.has(name)) this.drop(name);
  }

  /** Whether every wanted name is in force, as far as this node knows. */
  get whole(): boolean {
    return !this.interrupted;
  }

  /** Makes sure that the connections live and have what they should: a lost one, or a moved slot, shows here. */
  check(): void {
    const probed = new Set<number>();
    for (const [name, { partition }] of this.wanted) {
      if (probed.has(partition)) continue;
      probed.add(partition);
      this.schedule(name);
      if (!this.client.sharded) return;
    }
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    for (const { waiters } of this.wanted.values()) {
      for (const { reject } of waiters) reject(new RealtimeException('broker_unavailable', 'The session is closed'));
    }
    this.wanted.clear();
    for (const { redis } of this.lanes.values()) redis.disconnect();
    this.lanes.clear();
  }

  private drop(name: string): void {
    this.wanted.delete(name);
    this.schedule(name);
  }

  private schedule(name: string): void {
    this.pending.add(name);
    if (this.scheduled) return;
    this.scheduled = true;
    queueMicrotask(() => this.flush());
  }

  /** Tries names again after a while. */
  private later(names: Iterable<string>): void {
    for (const name of names) this.pending.add(name);
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      this.flush();
    }, RETRY_MS).unref();
  }

  private flush(): void {
    this.scheduled = false;
    if (this.closed) return;
    const names = this.pending;
    this.pending = new Set();
    // What a command of a Cluster names has to share a slot, hence a partition.
    const batches = new Map<number, { lane: Lane; on: string[] }>();
    const off: string[] = [];
    for (const name of names) {
      const wanted = this.wanted.get(name);
      if (wanted === undefined) {
        off.push(name);
        continue;
      }
      const lane = this.laneOf(wanted.partition);
      if (lane?.redis.status !== 'ready') {
        // A lane that is not ready subscribes all its names when it is.
        if (lane === undefined) this.later([name]);
        else this.assign(name, lane);
        continue;
      }
      this.assign(name, lane);
      const key = this.client.sharded ? wanted.partition : 0;
      const batch = batches.get(key);
      if (batch) batch.on.push(name);
      else batches.set(key, { lane, on: [name] });
    }
    for (const { lane, on } of batches.values()) this.send(lane, on);
    for (const lane of this.lanes.values()) this.forget(lane, off);
    this.settle();
  }

  private assign(name: string, lane: Lane): void {
    for (const { names } of this.lanes.values()) names.delete(name);
    lane.names.add(name);
  }

  private send(lane: Lane, names: readonly string[]): void {
    for (let i = 0; i < names.length; i += NAMES_PER_COMMAND) {
      const some = names.slice(i, i + NAMES_PER_COMMAND);
      this.inFlight += 1;
      const answered = this.client.sharded ? lane.redis.ssubscribe(...some) : lane.redis.subscribe(...some);
      answered
        .then(
          () => {
            for (const name of some) {
              const wanted = this.wanted.get(name);
              for (const { resolve } of wanted?.waiters.splice(0) ?? []) resolve();
            }
          },
          () => {
            // The slot moved, or the connection broke: the names find their lane anew.
            this.interrupted = true;
            this.client.refresh();
            for (const name of some) lane.names.delete(name);
            this.later(some);
          },
        )
        .finally(() => {
          this.inFlight -= 1;
          this.settle();
        });
    }
  }

  private forget(lane: Lane, names: readonly string[]): void {
    const gone = names.filter((name) => lane.names.delete(name));
    if (gone.length === 0 || lane.redis.status !== 'ready') return;
    if (!this.client.sharded) {
      lane.redis.unsubscribe(...gone).catch(() => undefined);
      return;
    }
    for (const name of gone) lane.redis.sunsubscribe(name).catch(() => undefined);
  }

  private laneOf(partition: number): Lane | undefined {
    const shard = this.client.shardOf(partition);
    const known = this.lanes.get(shard);
    if (known !== undefined) return known;
    const redis = this.client.subscriber(shard);
    if (redis === undefined) return undefined;
    const lane: Lane = { redis, names: new Set() };
    this.lanes.set(shard, lane);
    redis.on('error', () => undefined);
    redis.on('ready', () => this.restore(lane));
    redis.on('close', () => (this.interrupted = true));
    // A shard gave the slot of some names away.
    redis.on('moved', () => {
      this.client.refresh();
      this.reassign(lane);
    });
    const receive = (name: Buffer, message: Buffer): void => {
      this.wanted.get(name.toString())?.receive(message);
    };
    redis.on(this.client.sharded ? 'smessageBuffer' : 'messageBuffer', receive);
    redis.connect().catch(() => undefined);
    return lane;
  }

  /** A connection is there, or there again: it has no subscriptions. */
  private restore(lane: Lane): void {
    for (const name of lane.names) this.pending.add(name);
    this.flush();
  }

  /** Moves names to the shard that has them now, and closes the connections of shards that have none. */
  private reassign(suspect?: Lane): void {
    if (this.closed) return;
    for (const [name, { partition }] of this.wanted) {
      const lane = this.lanes.get(this.client.shardOf(partition));
      if (lane?.names.has(name) && lane !== suspect) continue;
      this.interrupted = true;
      this.schedule(name);
    }
    const used = new Set([...this.wanted.values()].map(({ partition }) => this.client.shardOf(partition)));
    for (const [shard, { redis }] of this.lanes) {
      if (used.has(shard)) continue;
      this.lanes.delete(shard);
      redis.disconnect();
    }
  }

  /** Tells of the end of an interruption, once all is answered. */
  private settle(): void {
    if (!this.interrupted || this.inFlight > 0 || this.pending.size > 0 || this.closed) return;
    for (const { redis } of this.lanes.values()) if (redis.status !== 'ready') return;
    this.interrupted = false;
    this.resumed();
  }
}
