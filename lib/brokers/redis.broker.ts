import type { Broker, BrokerListener, BrokerSession } from '../hub/ports/broker.js';
import { resolveRedisOptions, type RedisBrokerOptions, type RedisBrokerSettings } from './redis-options.js';
import { RedisSession } from './redis-session.js';

/**
 * A broker on Redis 7 or later: nodes in any number of processes are one. One server, Sentinel, or a Cluster, where
 * announcements are sharded. Throws for options that cannot be used; that Redis cannot be used shows when the
 * application starts.
 */
export function redisBroker(options: RedisBrokerOptions): Broker {
  return new RedisBroker(resolveRedisOptions(options));
}

class RedisBroker implements Broker {
  readonly name = 'redis';
  readonly shared = true;

  constructor(private readonly settings: RedisBrokerSettings) {}

  /** Rejects with `broker_unavailable` if Redis does not answer, or has keys of a version with other partitions. */
  open(node: string, listener: BrokerListener): Promise<BrokerSession> {
    return new RedisSession(this.settings, node, listener).open();
  }
}
