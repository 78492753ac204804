import type { Cluster, Redis } from 'ioredis';
import type { RedisSource } from './redis-client.js';

/** Options of {@link redisBroker}: one of `url` and `client` is needed. */
export interface RedisBrokerOptions {
  /** Where Redis is: `redis://`, or `rediss://` for TLS, with user, password and database where needed. */
  url?: string;
  /**
   * A client of ioredis that says where Redis is: of one server, of Sentinel (`role: 'master'`), or of a Cluster. It is
   * copied, with the broker's own settings for queues, time limits and reconnecting, and never used or closed itself: make
   * it with `lazyConnect: true` if nothing else uses it. Its `keyPrefix` does not count.
   */
  client?: Redis | Cluster;
  /**
   * What every key and pub/sub name begins with: installations with different prefixes share a Redis and nothing else.
   * 1 to 64 characters, no braces.
   *
   * @defaultValue 'realtime'
   */
  prefix?: string;
  /**
   * How long a call may wait for Redis → then it is rejected: with `broker_unavailable` if nothing was applied, with
   * `outcome_unknown` if it may have been. What was sent already has up to 2 s more. In milliseconds.
   *
   * @defaultValue 5_000
   */
  publishTimeoutMs?: number;
  /**
   * How long a channel that nobody uses keeps its epoch and offset → then its log starts anew, and a peer with an older
   * position is told that it was lost. In milliseconds. Holds for channels that are read only; a publication brings its
   * own time.
   *
   * @defaultValue 86_400_000
   */
  metaTtlMs?: number;
  /**
   * What a node does that has not heard Redis for two thirds of its lease: `serve` goes on with its peers' frames; `fence`
   * holds them until Redis answers, so that no handler runs for a connection that another node claims.
   *
   * @defaultValue 'serve'
   */
  onIsolation?: 'serve' | 'fence';
  /** @internal How long a node lives without a beat, for tests; beats and sweeps keep their share of it. */
  leaseMs?: number;
}

/** The options, checked, with their defaults. */
export interface RedisBrokerSettings {
  readonly source: RedisSource;
  readonly prefix: string;
  readonly publishTimeoutMs: number;
  readonly metaTtlMs: number;
  readonly leaseMs: number;
  readonly fence: boolean;
}

/** Checks the options and fills in defaults. Throws one error that names every mistake. */
export function resolveRedisOptions(options: RedisBrokerOptions): RedisBrokerSettings {
  const {
    url,
    client,
    prefix = 'realtime',
    publishTimeoutMs = 5_000,
    metaTtlMs = 86_400_000,
    onIsolation = 'serve',
    leaseMs = 30_000,
  } = options;
  const mistakes: string[] = [];
  const source = url ?? client;
  if (source === undefined || (url !== undefined && client !== undefined)) {
    mistakes.push('give one of `url` and `client`');
  }
  if (url !== undefined && !isRedisUrl(url)) mistakes.push('`url` has to be a redis:// or rediss:// URL');
  if (client !== undefined && !isClient(client)) {
    mistakes.push('`client` has to be a Redis or a Cluster of ioredis');
  }
  if (typeof prefix !== 'string' || !/^[^{}]{1,64}$/.test(prefix)) {
    mistakes.push('`prefix` has to be 1 to 64 characters without braces');
  }
  for (const [name, value] of Object.entries({ publishTimeoutMs, metaTtlMs, leaseMs })) {
    if (!(Number.isFinite(value) && value > 0)) {
      mistakes.push(`\`${name}\` has to be a positive number of milliseconds, not ${String(value)}`);
    }
  }
  if (onIsolation !== 'serve' && onIsolation !== 'fence') {
    mistakes.push(`\`onIsolation\` has to be 'serve' or 'fence', not ${JSON.stringify(onIsolation)}`);
  }
  if (mistakes.length > 0 || source === undefined) throw new TypeError(`redisBroker: ${mistakes.join('; ')}`);
  return { source, prefix, publishTimeoutMs, metaTtlMs, leaseMs, fence: onIsolation === 'fence' };
}

/** Never repeated in an error: it may hold a password. */
function isRedisUrl(url: unknown): boolean {
  if (typeof url !== 'string' || !URL.canParse(url)) return false;
  return ['redis:', 'rediss:'].includes(new URL(url).protocol);
}

/** By its shape: the application may have another copy of ioredis. */
function isClient(client: unknown): boolean {
  if (typeof client !== 'object' || client === null) return false;
  return 'isCluster' in client && 'duplicate' in client && typeof client.duplicate === 'function';
}
