import type { HubHealth } from '../health.js';
import type { HistogramStats } from './histogram.js';

/** Frames and their bytes. */
export interface FrameStats {
  readonly frames: number;
  readonly bytes: number;
}

/** What the channels of a declared pattern do on a node. */
export interface ChannelStats {
  /** Channels that have subscribers on this node, now. */
  readonly subscribed: number;
  /** Subscriptions of this node, now; those of the process itself are among them. */
  readonly subscriptions: number;
  /** Publications that this node has made. */
  readonly published: number;
  /** Publications that were given to peers of this node, one for each peer. */
  readonly delivered: number;
  readonly deliveredBytes: number;
}

/**
 * What a node has counted since it started, and what it has now. Nothing in it is named by peers: events that no handler
 * takes are `unknown`, channels are told by the patterns that were declared.
 */
export interface RealtimeStats {
  readonly node: string;
  /** When it was looked, ms since 1970. */
  readonly at: number;
  readonly health: HubHealth;
  readonly connections: {
    /** Open connections, by transport, now. */
    readonly active: Readonly<Record<string, number>>;
    readonly opened: Readonly<Record<string, number>>;
    /**
     * Connections that have ended, by why: the code of an error where the hub or the application ended them so, `normal`,
     * `going_away`, `abnormal` (the link broke) or `other` (a code of the application's or the peer's own). Those that any
     * node serves are counted by the one that ended them.
     */
    readonly closed: Readonly<Record<string, number>>;
    /** Connections that were refused before they were open, by the code of the error: by the handshake, or behind it. */
    readonly refused: Readonly<Record<string, number>>;
    readonly lifetimeSeconds: HistogramStats;
    /** Handshakes that were passed. */
    readonly handshakeSeconds: HistogramStats;
  };
  readonly frames: {
    /** By event; `unknown`: no handler takes it, `bad`: could not be read, `unread`: refused before it was read. */
    readonly received: Readonly<Record<string, FrameStats>>;
    /**
     * By what they are: `publication`, `skipped`, `answer`, `event` (of the application), or the hub's own, such as
     * `$ping`. Counted as they are given to the link.
     */
    readonly sent: Readonly<Record<string, FrameStats>>;
  };
  /** How long frames took to be served, one in four of each event; a handler that returns a stream until it has. */
  readonly handlers: Readonly<Record<string, HistogramStats>>;
  /** Errors that peers were answered, by code. */
  readonly errors: Readonly<Record<string, number>>;
  /** What was refused as it was too much: `frames_per_second`, `frames_in_flight`, `held_frames`, `application`. */
  readonly throttled: Readonly<Record<string, number>>;
  readonly heartbeatTimeouts: number;
  readonly outbox: {
    /** What waits for peers of this node, now. */
    readonly bytes: number;
    /** How often a peer read too slowly, by what came of it: `disconnect`, `drop_oldest`, `conflate`. */
    readonly slowConsumers: Readonly<Record<string, number>>;
  };
  /** By the declared pattern. */
  readonly channels: Readonly<Record<string, ChannelStats>>;
  /** Subscriptions that began with a position: `recovered`, or `lost`. */
  readonly recoveries: Readonly<Record<string, number>>;
  /** Losses that live subscriptions were told (`$lost`), by reason. */
  readonly losses: Readonly<Record<string, number>>;
  readonly presence: {
    /** Memberships of this node's connections, now. */
    readonly members: number;
    /** Members that came to channels with subscribers on this node, and left them. */
    readonly joined: number;
    readonly left: number;
  };
  readonly broker: {
    readonly name: string;
    readonly available: boolean;
    /** How long calls took that succeeded. */
    readonly callSeconds: Readonly<Record<string, HistogramStats>>;
    readonly errors: Readonly<Record<string, number>>;
  };
  /**
   * How long it took to give what came for channels in a turn of the event loop to the links of all their peers. Turns that
   * bring what nodes tell each other alone are not among them.
   */
  readonly fanOutSeconds: HistogramStats;
  /**
   * How long it took from the call that published, on whatever node, until publications were with the links of this one;
   * sampled. Between nodes it holds the difference of their clocks.
   */
  readonly deliverySeconds: HistogramStats;
}
