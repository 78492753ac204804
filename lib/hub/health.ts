/** Past this a node is `degraded` for its event loop, ms: peers notice, and a second more costs it its lease. */
const DEGRADED_LAG_MS = 1_000;

/** What a node can do. */
export interface HubHealth {
  /**
   * `degraded`: peers are served, and less well, for the `reasons` that are given. `down`: peers are not served, as the hub
   * has not started or is closed.
   */
  readonly status: 'up' | 'degraded' | 'down';
  /**
   * Why the node is degraded. `broker`: the broker is away, so that peers stay and get what this node has, and publications
   * wait or are refused. `event_loop`: something kept the process from its work for more than a second.
   */
  readonly reasons: readonly ('broker' | 'event_loop')[];
  /** Whether new peers are let in: no longer once the application shuts down. */
  readonly ready: boolean;
  readonly broker: { readonly name: string; readonly available: boolean };
  /** The longest time that something had to wait for the event loop, of the last second or two, ms. */
  readonly eventLoopLagMs: number;
  /** The connections of this node. */
  readonly connections: number;
}

/** Where a hub is in its life. */
export type HubState = 'starting' | 'open' | 'draining' | 'closed';

/** What a hub's health is told by. */
export interface Patient {
  readonly settings: { readonly broker: { readonly name: string } };
  readonly loop: { readonly lagMs: number };
  readonly connections: { readonly size: number };
}

/** What a node can do, as far as it knows: asks nobody. */
export function healthOf(
  state: HubState,
  session: { readonly available: boolean } | undefined,
  of: Patient,
): HubHealth {
  const available = session?.available ?? false;
  const eventLoopLagMs = Math.round(of.loop.lagMs);
  const alive = state === 'open' || state === 'draining';
  const reasons = [
    ...(alive && !available ? (['broker'] as const) : []),
    ...(alive && eventLoopLagMs > DEGRADED_LAG_MS ? (['event_loop'] as const) : []),
  ];
  return {
    status: alive ? (reasons.length === 0 ? 'up' : 'degraded') : 'down',
    reasons,
    ready: state === 'open',
    broker: { name: of.settings.broker.name, available },
    eventLoopLagMs,
    connections: of.connections.size,
  };
}
