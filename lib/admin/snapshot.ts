import type { HubHealth } from '../hub/health.js';
import type { ChannelStats } from '../hub/ports/stats.js';

/** How often a node takes a sample, and tells those who watch what it has, ms. */
export const SAMPLE_MS = 2_000;

/** Half of the values, and all but one in a hundred, are not above these, ms. */
export type Percentiles = readonly [p50: number, p99: number];

/** What a node did in one interval. Rates are per second. */
export interface Sample {
  /** The number of the interval, about the same on all nodes: their clocks divided by its length. */
  readonly slot: number;
  readonly connections: number;
  /** Frames of peers. */
  readonly received: number;
  /** Frames to peers, publications included. */
  readonly sent: number;
  readonly published: number;
  /** Publications that were given to peers, one for each peer. */
  readonly delivered: number;
  /** Errors that peers were answered. */
  readonly errors: number;
  /** Handshakes that were refused. */
  readonly refused: number;
  readonly lagMs: number;
  /** `null`: nothing was delivered. */
  readonly fanOutMs: Percentiles | null;
  readonly deliveryMs: Percentiles | null;
}

/** A channel with subscribers on a node. */
export interface ChannelReport {
  readonly name: string;
  readonly pattern: string;
  readonly subscribers: number;
  /** Where the channel is: two of them tell how much was published between. */
  readonly epoch: string;
  readonly offset: number;
}

/** A point of the checklist at which a node falls short. */
export interface Finding {
  readonly check: string;
  readonly message: string;
  readonly fix: string;
}

type Counts = Readonly<Record<string, number>>;

/** What a node tells of itself. */
export interface NodeReport {
  /** What this is written as; a node passes over what it does not know. */
  readonly format: typeof REPORT_FORMAT;
  readonly node: string;
  readonly host: string;
  readonly pid: number;
  /** Of this package, and of Node. */
  readonly version: string;
  readonly runtime: string;
  readonly uptimeMs: number;
  readonly memoryBytes: number;
  readonly health: HubHealth;
  /** Open connections, by transport. */
  readonly connections: Counts;
  readonly outboxBytes: number;
  readonly members: number;
  /** Counted since the node started. */
  readonly counted: {
    readonly opened: Counts;
    readonly closed: Counts;
    readonly refused: Counts;
    readonly errors: Counts;
    readonly throttled: Counts;
    readonly slowConsumers: Counts;
    readonly recoveries: Counts;
    readonly losses: Counts;
    readonly brokerErrors: Counts;
    readonly heartbeatTimeouts: number;
  };
  /** By the declared pattern. */
  readonly patterns: Readonly<Record<string, ChannelStats>>;
  /** How many channels have subscribers here, and those with the most. */
  readonly channels: { readonly total: number; readonly top: readonly ChannelReport[] };
  readonly findings: readonly Finding[];
  readonly sample: Sample;
}

export const REPORT_FORMAT = 1;

/** The samples that a node has kept, oldest first. */
export interface Past {
  readonly format: typeof REPORT_FORMAT;
  readonly node: string;
  readonly samples: readonly Sample[];
}

/** What a page is told first. */
export interface Hello {
  readonly node: string;
  readonly readOnly: boolean;
  readonly version: string;
  readonly intervalMs: number;
  /** All points of the checklist. */
  readonly checks: readonly string[];
}

/** A connection in a list. */
export interface ConnectionLine {
  readonly id: string;
  readonly node: string;
  readonly transport: string;
  readonly userId?: string;
  readonly ip: string;
  readonly openedAt: number;
  /** How many channels it is subscribed to. */
  readonly channels: number;
}

/** A page of the connections that match a search. */
export interface ConnectionPage {
  /** Of all nodes, and how many of them match. */
  readonly total: number;
  readonly matching: number;
  readonly page: number;
  readonly pages: number;
  readonly items: readonly ConnectionLine[];
}

/** All that is known of a connection. */
export interface ConnectionDetails extends Omit<ConnectionLine, 'channels'> {
  readonly client?: string;
  readonly endpoint: string;
  readonly params: Readonly<Record<string, string>>;
  readonly channels: readonly string[];
}

/** A publication, as far as it is shown. */
export interface PublicationLine {
  readonly offset: number;
  readonly event: string;
  /** JSON text, cut where it is long. */
  readonly data: string;
  /** How long the whole text is. */
  readonly length: number;
}

/** A channel over all nodes. */
export interface ChannelDetails {
  readonly channel: string;
  readonly pattern: string;
  readonly position: string;
  readonly history: { readonly size: number; readonly ttlMs: number };
  readonly subscribers: {
    readonly total: number;
    readonly byNode: Counts;
    readonly byTransport: Counts;
  };
  /** Absent where the channel has no presence. */
  readonly members?: { readonly count: number; readonly ids: readonly string[] };
  /** Absent unless it was asked for. Newest first. */
  readonly publications?: readonly PublicationLine[];
}
