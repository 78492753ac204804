import { Inject, Injectable } from '@nestjs/common';
import { HealthIndicatorService, type HealthIndicatorResult } from '@nestjs/terminus';
import type { HubHealth } from '../hub/health.js';
import { RealtimeService } from './realtime.service.js';

/** What a check tells besides its `status`. */
export interface RealtimeHealthDetails extends Pick<HubHealth, 'ready' | 'broker' | 'eventLoopLagMs'> {
  /** Peers are served, and less well, for the `reasons`. No reason to restart the node or to take its peers away. */
  readonly degraded: boolean;
  /** Why the node is degraded; empty where it is not. */
  readonly reasons: HubHealth['reasons'];
  readonly [detail: string]: unknown;
}

/** The result of a check under its key. */
export type RealtimeHealthResult<Key extends string> = HealthIndicatorResult<Key, 'up' | 'down', RealtimeHealthDetails>;

/**
 * `@nestjs/terminus`'s indicator of this node, built on `RealtimeService.health()`: asks nobody. Provide it in a module that
 * imports `TerminusModule`, and check it in a route with `@HealthCheck()`.
 *
 * A node that is degraded is `up`, and tells so by `degraded: true` with its `reasons`.
 */
@Injectable()
export class RealtimeHealthIndicator {
  constructor(
    @Inject(HealthIndicatorService) private readonly indicators: HealthIndicatorService,
    @Inject(RealtimeService) private readonly realtime: RealtimeService,
  ) {}

  /** For liveness probes: down where the hub has not started or is closed, and up while it drains. */
  isAlive<const Key extends string>(key: Key): RealtimeHealthResult<Key> {
    const health = this.realtime.health();
    return this.#tell(key, health, health.status !== 'down');
  }

  /** For readiness probes: down also where no new peers are let in, as the node starts or drains. */
  isReady<const Key extends string>(key: Key): RealtimeHealthResult<Key> {
    const health = this.realtime.health();
    return this.#tell(key, health, health.status !== 'down' && health.ready);
  }

  #tell<const Key extends string>(
    key: Key,
    { status, reasons, ready, broker, eventLoopLagMs }: HubHealth,
    up: boolean,
  ): RealtimeHealthResult<Key> {
    const session = this.indicators.check(key);
    const details = { ready, degraded: status === 'degraded', reasons, broker, eventLoopLagMs };
    return up ? session.up(details) : session.down(details);
  }
}
