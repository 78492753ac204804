import { isErrorCode } from '../protocol/errors.js';
import type { Channel } from './channel.js';
import type { Connection } from './connection.js';
import type { HubHealth } from './health.js';
import { endReason, type Meter } from './ports/meter.js';
import type { FrameStats, RealtimeStats } from './ports/stats.js';

/** What is looked at when the stats are asked for. */
export interface Counted {
  readonly node: string;
  readonly meter: Meter;
  readonly health: HubHealth;
  readonly connections: ReadonlyMap<string, Connection>;
  readonly subscriptions: { readonly channels: ReadonlyMap<string, Channel> };
  now(): number;
}

/** Counts the end of a connection that had passed its handshake: as refused where an error ended it that was not open yet. */
export function countEnd(
  meter: Meter,
  { entered, closed, endedByWire, openedAt }: Pick<Connection, 'entered' | 'closed' | 'endedByWire' | 'openedAt'>,
  now: number,
): void {
  if (!entered) {
    if (!endedByWire && isErrorCode(closed?.reason)) meter.refused.add(closed.reason);
    return;
  }
  const reason = endReason(closed, endedByWire);
  meter.closed.add(reason);
  if (reason === 'slow_consumer') meter.slowConsumers.add('disconnect');
  meter.lifetime.observe((now - openedAt) / 1_000);
}

/** What a node has counted since it started, and what it has now: looks at each connection and channel once. */
export function statsOf(of: Counted): RealtimeStats {
  const { meter, health } = of;
  const { broker } = health;
  const { active, outboxBytes, members } = look(of.connections.values());
  const followed = lookAtChannels(of.subscriptions.channels.values());
  return {
    node: of.node,
    at: of.now(),
    health,
    connections: {
      active,
      opened: meter.opened.stats,
      closed: meter.closed.stats,
      refused: meter.refused.stats,
      lifetimeSeconds: meter.lifetime.stats,
      handshakeSeconds: meter.handshake.stats,
    },
    frames: { received: received(meter), sent: sent(meter) },
    handlers: Object.fromEntries(
      [...meter.events]
        .map(([event, { duration }]) => [event, duration.stats] as const)
        .filter(([, { count }]) => count > 0),
    ),
    errors: meter.errors.stats,
    throttled: meter.throttled.stats,
    heartbeatTimeouts: meter.heartbeatTimeouts,
    outbox: { bytes: outboxBytes, slowConsumers: meter.slowConsumers.stats },
    channels: Object.fromEntries(
      [...meter.channels]
        .filter(([pattern]) => !pattern.startsWith('$'))
        .map(([pattern, { published, delivered, bytes }]) => {
          const { subscribed, subscriptions } = followed.get(pattern) ?? NOBODY;
          return [pattern, { subscribed, subscriptions, published, delivered, deliveredBytes: bytes }];
        }),
    ),
    recoveries: meter.recoveries.stats,
    losses: meter.losses.stats,
    presence: { members, joined: meter.joined, left: meter.left },
    broker: {
      ...broker,
      callSeconds: Object.fromEntries([...meter.calls].map(([name, duration]) => [name, duration.stats])),
      errors: meter.brokerErrors.stats,
    },
    fanOutSeconds: meter.fanOut.stats,
    deliverySeconds: meter.delivery.stats,
  };
}

const NOBODY = { subscribed: 0, subscriptions: 0 };

function look(connections: Iterable<Connection>): {
  active: Record<string, number>;
  outboxBytes: number;
  members: number;
} {
  const active: Record<string, number> = {};
  let outboxBytes = 0;
  let members = 0;
  for (const connection of connections) {
    outboxBytes += connection.outboxBytes;
    if (connection.phase !== 'open') continue;
    active[connection.transport] = (active[connection.transport] ?? 0) + 1;
    for (const { definition } of connection.subscriptions.values()) if (definition.presence) members++;
  }
  return { active, outboxBytes, members };
}

/** How many channels of each pattern have subscribers, and how many those are. */
function lookAtChannels(channels: Iterable<Channel>): Map<string, { subscribed: number; subscriptions: number }> {
  const patterns = new Map<string, { subscribed: number; subscriptions: number }>();
  for (const { definition, subscribers } of channels) {
    if (subscribers.size === 0) continue;
    let found = patterns.get(definition.pattern);
    if (found === undefined) patterns.set(definition.pattern, (found = { ...NOBODY }));
    found.subscribed++;
    found.subscriptions += subscribers.size;
  }
  return patterns;
}

function received({ events, unknown, bad, unread }: Meter): RealtimeStats['frames']['received'] {
  const tallies = [...events, ['unknown', unknown], ['bad', bad], ['unread', unread]] as const;
  return Object.fromEntries(tallies.map(([event, { frames, bytes }]) => [event, { frames, bytes }]));
}

function sent({ sent: tallies, channels }: Meter): RealtimeStats['frames']['sent'] {
  const publication = { frames: 0, bytes: 0 };
  for (const { delivered, bytes } of channels.values()) {
    publication.frames += delivered;
    publication.bytes += bytes;
  }
  const others = Object.entries(tallies).map(([event, { frames, bytes }]) => [event, { frames, bytes }] as const);
  return { publication, ...Object.fromEntries<FrameStats>(others) };
}
