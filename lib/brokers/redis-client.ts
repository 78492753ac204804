import { Redis, type Cluster, type RedisOptions } from 'ioredis';
import type { Socket } from 'node:net';
import { crc16 } from './redis-keys.js';

/** After how long without any answer a connection counts as dead, ms. */
export const SILENCE_MS = 2_000;
/** How often a Cluster is asked which master has which slots. */
const REFRESH_MS = 5_000;
const SLOTS = 16_384;
/** The one shard of a Redis that is no Cluster. */
const WHOLE = '';

/** Nothing waits inside ioredis, and nothing is sent twice: what waits is bounded, and sent again, by the broker. */
const SETTINGS = {
  autoResendUnfulfilledCommands: false,
  autoResubscribe: false,
  commandTimeout: SILENCE_MS,
  connectTimeout: SILENCE_MS,
  connectionName: 'nestjs-realtime',
  enableAutoPipelining: false,
  enableOfflineQueue: false,
  keyPrefix: '',
  lazyConnect: true,
  maxRetriesPerRequest: 0,
  replyMapping: 'legacy',
  retryStrategy: retryAfter,
  socketTimeout: SILENCE_MS,
} as const satisfies RedisOptions;

/** Up to 400 ms, far below a lease, with jitter, so that nodes do not come back in step. */
function retryAfter(attempt: number): number {
  return Math.min(400, 25 * 2 ** Math.min(attempt, 10)) * (0.5 + Math.random() / 2);
}

/** What says where Redis is: a URL, or a client of the application, which is copied and left alone. */
export type RedisSource = string | Redis | Cluster;

/** One node's connections to Redis, whatever kind it is of. Sets up each with the broker's own settings. */
export class RedisClient {
  readonly redis: Redis | Cluster;
  private readonly cluster: Cluster | undefined;
  private lastError: Error | undefined;

  constructor(source: RedisSource) {
    if (typeof source === 'string') {
      this.redis = new Redis(source, SETTINGS);
    } else if (isCluster(source)) {
      const { retryStrategy: _retries, enableOfflineQueue: _queue, ...redisOptions } = SETTINGS;
      this.redis = this.cluster = source.duplicate([], {
        clusterRetryStrategy: retryAfter,
        enableAutoPipelining: false,
        // Without it a call is refused as if its connection had broken, while the one to its master is being made.
        enableOfflineQueue: true,
        keyPrefix: '',
        lazyConnect: true,
        redisOptions,
        // A command whose connection broke may have been applied: never sent again by itself.
        retryDelayOnFailover: 0,
        scaleReads: 'master',
        shardedSubscribers: false,
        slotsRefreshInterval: REFRESH_MS,
        slotsRefreshTimeout: SILENCE_MS,
      });
    } else {
      this.redis = source.duplicate(SETTINGS);
    }
    // Errors of connections show as calls that fail; an event without a listener would end the process.
    this.redis.on('error', (error: Error) => (this.lastError = error));
  }

  /** Whether it is a Cluster: announcements are sharded. */
  get sharded(): boolean {
    return this.cluster !== undefined;
  }

  get ready(): boolean {
    return this.redis.status === 'ready';
  }

  /** The socket of the one connection, if there is one. */
  get stream(): Socket | undefined {
    return this.cluster === undefined && this.ready ? (this.redis as Redis).stream : undefined;
  }

  /** Connects; rejects where that fails at once, with the cause. */
  async open(): Promise<void> {
    try {
      await this.redis.connect();
    } catch (error) {
      throw this.lastError ?? error;
    }
  }

  /** Gives the connection up for another: it leads to a replica, or nobody answers. */
  reconnect(): void {
    if (this.ready && this.cluster === undefined) this.redis.disconnect(true);
  }

  /** Asks anew which master of a Cluster has which slots. */
  refresh(): void {
    this.cluster?.refreshSlotsCache();
  }

  close(): void {
    this.redis.disconnect();
  }

  /** Where the pub/sub names of a partition are: shards change with the masters of a Cluster. */
  shardOf(partition: number): string {
    return this.cluster?.slots[crc16(String(partition)) % SLOTS]?.[0] ?? WHOLE;
  }

  /** A connection for subscriptions to a shard, not open yet; `undefined` while nobody knows the shard. */
  subscriber(shard: string): Redis | undefined {
    const { cluster } = this;
    if (cluster === undefined) return (this.redis as Redis).duplicate(SETTINGS);
    const master = cluster.nodes('master').find(({ options }) => `${options.host}:${options.port}` === shard);
    return master?.duplicate({ ...SETTINGS, readOnly: false });
  }
}

function isCluster(source: Redis | Cluster): source is Cluster {
  return source.isCluster;
}
