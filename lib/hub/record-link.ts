import type { DisconnectData } from '../protocol/frames.js';
import type { Followed } from './following.js';
import type { InboxEntry } from './ports/records.js';

/** How long a connection lasts without a link, ms. */
export const GAP_MS = 60_000;

/** A link of a connection with a record, on this node: a poll that waits, or a stream. */
export interface RecordLink {
  /** Its number, given by the broker; 0: it has none yet. */
  number: number;
  /** Frames of the inbox up to here have arrived. */
  readonly ack: number;
  /** For how long its record is due each time that it is looked after, ms. */
  readonly dueMs: number;
  /** Whether it tells nothing any more. */
  readonly over: boolean;
  /** Whether it takes more of its channels now. */
  readonly hasRoom: boolean;
  /** The frames of the inbox that have not arrived. */
  inbox(entries: readonly InboxEntry[]): void;
  follow(channels: readonly Followed[]): Promise<void>;
  keep(channels: ReadonlySet<string>): void;
  /**
   * Ends it in order: its peer comes back, after `delayMs` where the wire can say so; with `last`, which is told behind all
   * else, the connection is over.
   */
  finish(last?: DisconnectData, delayMs?: number): void;
  /** A newer link of the same connection took over. */
  supersede(): void;
  /** This node lets go of the connection, and does not know how it ended. */
  abandon(): void;
}
