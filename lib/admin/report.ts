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
  const followed: Channel[] = [];
  for (const channel of channels) {
    if (channel.subscribers.size > 0 && !channel.channel.startsWith('$')) followed.push(channel);
  }
  const top = followed.length <= TOP_CHANNELS ? followed : largest(followed);
  return {
    total: followed.length,
    top: top.map(({ channel: name, definition: { pattern }, subscribers, epoch, top: { offset } }): ChannelReport => ({
      name,
      pattern,
      subscribers: subscribers.size,
      epoch,
      offset,
    })),
  };
}

function largest(channels: Channel[]): Channel[] {
  return channels.sort((a, b) => b.subscribers.size - a.subscribers.size).slice(0, TOP_CHANNELS);
}
