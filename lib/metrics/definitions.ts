import type { HistogramStats } from '../hub/ports/histogram.js';
import type { RealtimeStats } from '../hub/ports/stats.js';

/** The values of one metric, each with its label where it has one. */
type Numbers = Readonly<Record<string, number>>;
type Histograms = Readonly<Record<string, HistogramStats>>;

interface Described {
  readonly name: string;
  readonly help: string;
}

/** A metric: its name and what it is, and how its values are found. `label`: values are told by it; else there is one. */
export type MetricDefinition = Described &
  (
    | { readonly type: 'counter' | 'gauge'; readonly label: string; readonly read: (stats: RealtimeStats) => Numbers }
    | { readonly type: 'counter' | 'gauge'; readonly label?: never; readonly read: (stats: RealtimeStats) => number }
    | { readonly type: 'histogram'; readonly label: string; readonly read: (stats: RealtimeStats) => Histograms }
    | { readonly type: 'histogram'; readonly label?: never; readonly read: (stats: RealtimeStats) => HistogramStats }
  );

/** Every metric, in the order of the page. docs/operations.md has the same list. */
export const METRICS: readonly MetricDefinition[] = [
  {
    name: 'realtime_connections_active',
    help: 'Open connections',
    type: 'gauge',
    label: 'transport',
    read: ({ connections: { active, opened } }) => ({ ...each(opened, () => 0), ...active }),
  },
  {
    name: 'realtime_connections_opened_total',
    help: 'Connections that were opened',
    type: 'counter',
    label: 'transport',
    read: ({ connections }) => connections.opened,
  },
  {
    name: 'realtime_connections_closed_total',
    help: 'Connections that were open and have ended, by why',
    type: 'counter',
    label: 'reason',
    read: ({ connections }) => connections.closed,
  },
  {
    name: 'realtime_connections_refused_total',
    help: 'Connections that were refused before they were open, by the code of the error',
    type: 'counter',
    label: 'reason',
    read: ({ connections }) => connections.refused,
  },
  {
    name: 'realtime_connection_duration_seconds',
    help: 'How long connections were open',
    type: 'histogram',
    read: ({ connections }) => connections.lifetimeSeconds,
  },
  {
    name: 'realtime_handshake_duration_seconds',
    help: 'How long handshakes took that were passed',
    type: 'histogram',
    read: ({ connections }) => connections.handshakeSeconds,
  },
  {
    name: 'realtime_frames_received_total',
    help: 'Frames of peers; unknown: no handler takes the event, bad: not readable, unread: over the limit',
    type: 'counter',
    label: 'event',
    read: ({ frames }) => each(frames.received, (event) => event.frames),
  },
  {
    name: 'realtime_frames_received_bytes_total',
    help: 'Bytes of the frames of peers',
    type: 'counter',
    label: 'event',
    read: ({ frames }) => each(frames.received, (event) => event.bytes),
  },
  {
    name: 'realtime_frames_sent_total',
    help: 'Frames to peers, by what they are',
    type: 'counter',
    label: 'event',
    read: ({ frames }) => each(frames.sent, (event) => event.frames),
  },
  {
    name: 'realtime_frames_sent_bytes_total',
    help: 'Bytes of the frames to peers, as the transport writes them',
    type: 'counter',
    label: 'event',
    read: ({ frames }) => each(frames.sent, (event) => event.bytes),
  },
  {
    name: 'realtime_handler_duration_seconds',
    help: 'How long frames of peers took to be served; one in four of each event',
    type: 'histogram',
    label: 'event',
    read: ({ handlers }) => handlers,
  },
  {
    name: 'realtime_errors_total',
    help: 'Errors that peers were answered',
    type: 'counter',
    label: 'code',
    read: ({ errors }) => errors,
  },
  {
    name: 'realtime_throttled_total',
    help: 'Frames that were refused as they were too many, by the limit',
    type: 'counter',
    label: 'limit',
    read: ({ throttled }) => throttled,
  },
  {
    name: 'realtime_heartbeat_timeouts_total',
    help: 'Connections that gave no sign of life in time',
    type: 'counter',
    read: ({ heartbeatTimeouts }) => heartbeatTimeouts,
  },
  {
    name: 'realtime_outbox_bytes',
    help: 'Bytes that wait for peers',
    type: 'gauge',
    read: ({ outbox }) => outbox.bytes,
  },
  {
    name: 'realtime_slow_consumers_total',
    help: 'How often a peer read too slowly, by what came of it',
    type: 'counter',
    label: 'action',
    read: ({ outbox }) => outbox.slowConsumers,
  },
  {
    name: 'realtime_channels_active',
    help: 'Channels with subscribers, by the declared pattern',
    type: 'gauge',
    label: 'channel',
    read: ({ channels }) => each(channels, ({ subscribed }) => subscribed),
  },
  {
    name: 'realtime_subscriptions_active',
    help: 'Subscriptions, by the declared pattern of the channel',
    type: 'gauge',
    label: 'channel',
    read: ({ channels }) => each(channels, ({ subscriptions }) => subscriptions),
  },
  {
    name: 'realtime_publications_total',
    help: 'Publications that this node made, by the declared pattern of the channel',
    type: 'counter',
    label: 'channel',
    read: ({ channels }) => each(channels, ({ published }) => published),
  },
  {
    name: 'realtime_deliveries_total',
    help: 'Publications that were given to peers, by the declared pattern of the channel',
    type: 'counter',
    label: 'channel',
    read: ({ channels }) => each(channels, ({ delivered }) => delivered),
  },
  {
    name: 'realtime_fan_out_duration_seconds',
    help: 'How long a turn took to give its publications to the links of all their peers',
    type: 'histogram',
    read: ({ fanOutSeconds }) => fanOutSeconds,
  },
  {
    name: 'realtime_delivery_latency_seconds',
    help: 'How long it took from publishing on any node to the links of this one; sampled',
    type: 'histogram',
    read: ({ deliverySeconds }) => deliverySeconds,
  },
  {
    name: 'realtime_recoveries_total',
    help: 'Subscriptions that began with a position: recovered, or lost',
    type: 'counter',
    label: 'outcome',
    read: ({ recoveries }) => recoveries,
  },
  {
    name: 'realtime_losses_total',
    help: 'Losses that live subscriptions were told',
    type: 'counter',
    label: 'reason',
    read: ({ losses }) => losses,
  },
  {
    name: 'realtime_presence_members',
    help: 'Memberships of the connections of this node in channels with presence',
    type: 'gauge',
    read: ({ presence }) => presence.members,
  },
  {
    name: 'realtime_presence_changes_total',
    help: 'Members that came to channels with subscribers here, and left them',
    type: 'counter',
    label: 'change',
    read: ({ presence: { joined, left } }) => ({ joined, left }),
  },
  {
    name: 'realtime_broker_available',
    help: 'Whether the broker answers and every subscription is in force',
    type: 'gauge',
    label: 'broker',
    read: ({ broker: { name, available } }) => ({ [name]: Number(available) }),
  },
  {
    name: 'realtime_broker_call_duration_seconds',
    help: 'How long calls of the broker took that succeeded',
    type: 'histogram',
    label: 'call',
    read: ({ broker }) => broker.callSeconds,
  },
  {
    name: 'realtime_broker_errors_total',
    help: 'Calls of the broker that failed',
    type: 'counter',
    label: 'code',
    read: ({ broker }) => broker.errors,
  },
  {
    name: 'realtime_event_loop_lag_seconds',
    help: 'The longest time that something had to wait for the event loop, of the last second',
    type: 'gauge',
    read: ({ health }) => health.eventLoopLagMs / 1_000,
  },
  {
    name: 'realtime_status',
    help: 'Whether the node is up, degraded or down',
    type: 'gauge',
    label: 'status',
    read: ({ health }) => ({ up: 0, degraded: 0, down: 0, [health.status]: 1 }),
  },
  {
    name: 'realtime_ready',
    help: 'Whether new peers are let in',
    type: 'gauge',
    read: ({ health }) => Number(health.ready),
  },
];

function each<T>(values: Readonly<Record<string, T>>, number: (value: T) => number): Numbers {
  return Object.fromEntries(Object.entries(values).map(([label, value]) => [label, number(value)]));
}
