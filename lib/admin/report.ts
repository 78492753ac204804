import { hostname } from 'node:os';
import type { Channel } from '../hub/channel.js';
import type { Hub } from '../hub/hub.js';
import { statsOf } from '../hub/stats.js';
import { VERSION } from './assets.js';
import { REPORT_FORMAT, type ChannelReport, type Finding, type NodeReport, type Sample } from './snapshot.js';

/** How many channels a node tells of, those with the most subscribers. */
export const TOP_CHANNELS = 50;

/** Looks at a node: at each connection and channel once. */
export function reportOf(
  hub: Hub,
  { startedAt, findings, sample }: { startedAt: number; findings: readonly Finding[]; sample: Sample },
): NodeReport {
  const stats = statsOf(hub);
  const { opened, closed, refused } = stats.connections;
  return {
    format: REPORT_FORMAT,
    node: hub.node,
    host: hostname(),
    pid: process.pid,
    version: VERSION,
    runtime: process.version,
    uptimeMs: Math.max(0, stats.at - startedAt),
    memoryBytes: process.memoryUsage.rss(),
    health: stats.health,
    connections: stats.connections.active,
    outboxBytes: stats.outbox.bytes,
    members: stats.presence.members,
    counted: {
      opened,
      closed,
      refused,
      errors: stats.errors,
      throttled: stats.throttled,
      slowConsumers: stats.outbox.slowConsumers,
      recoveries: stats.recoveries,
      losses: stats.losses,
      brokerErrors: stats.broker.errors,
      heartbeatTimeouts: stats.heartbeatTimeouts,
    },
    patterns: stats.channels,
    channels: channelsOf(hub.subscriptions.channels.values()),
    findings,
    sample,
  };
}

function channelsOf(channels: Iterable<Channel>): NodeReport['channels'] {
  let total = 0;
  let top: Channel[] = [];
  let least = 0;
  for (const channel of channels) {
    const { size } = channel.subscribers;
    if (size === 0 || channel.channel.startsWith('$')) continue;
    total++;
    if (size <= least) continue;
    if (top.push(channel) < 2 * TOP_CHANNELS) continue;
    top = largest(top); // now and then: there may be very many
    least = top.at(-1)!.subscribers.size;
  }
  return {
    total,
    top: largest(top).map(
      ({ channel: name, definition: { pattern }, subscribers, epoch, top: { offset } }): ChannelReport => ({
        name,
        pattern,
        subscribers: subscribers.size,
        epoch,
        offset,
      }),
    ),
  };
}

function largest(channels: Channel[]): Channel[] {
  return channels.sort((a, b) => b.subscribers.size - a.subscribers.size).slice(0, TOP_CHANNELS);
}
