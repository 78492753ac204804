import { isErrorCode } from '../../protocol/errors.js';
import { FAST_SECONDS, Histogram, LIFE_SECONDS, WAIT_SECONDS } from './histogram.js';

/** Frames and their bytes. */
export class FrameTally {
  frames = 0;
  bytes = 0;

  add(bytes: number): void {
    this.frames++;
    this.bytes += bytes;
  }
}

/** Of how many frames of an event the time of one is taken: to look at the clock twice costs more than all else here. */
const TIMED_FRAMES = 4;

/** What peers send of one event, and how long it takes to serve it, s. */
export class EventTally extends FrameTally {
  readonly duration = new Histogram(FAST_SECONDS);
  #begun = 0;

  /** A frame begins to be served: when, where its time is to be taken, else 0. */
  begin(): number {
    return this.#begun++ % TIMED_FRAMES === 0 ? performance.now() : 0;
  }

  /** A frame was served that began at a time. */
  end(begun: number): void {
    if (begun > 0) this.duration.observe((performance.now() - begun) / 1_000);
  }
}

/** What the channels of one pattern did on this node. */
export class ChannelTally {
  /** Publications that this node made. */
  published = 0;
  /** Publications that were given to peers, one for each peer, and their bytes on the wire. */
  delivered = 0;
  bytes = 0;
}

/** Counts by the values of a label, which are few and the code's own. */
export class LabelTally {
  readonly #counts = new Map<string, number>();

  /** The values that are told from the start, at 0, so that a rate of them begins with the first. */
  constructor(known: readonly string[] = []) {
    for (const label of known) this.#counts.set(label, 0);
  }

  add(label: string, count = 1): void {
    this.#counts.set(label, (this.#counts.get(label) ?? 0) + count);
  }

  get(label: string): number {
    return this.#counts.get(label) ?? 0;
  }

  get stats(): Record<string, number> {
    return Object.fromEntries(this.#counts);
  }
}

/** The reserved events that peers may send. */
const RESERVED_EVENTS = [
  '$auth',
  '$cancel',
  '$history',
  '$pong',
  '$presence',
  '$publish',
  '$resume',
  '$subscribe',
  '$unsubscribe',
];

/** Publications on their way of which the time to the socket is taken: one of each node in so many ms. */
const SAMPLE_MS = 5;

/**
 * What a node counts while it serves. Every part of the hub adds to its fields where something happens: an addition to a
 * number, no call of anything else. Nothing in it is named by a peer: events that no handler takes are one, and channels
 * are counted by their declared patterns. Read by `statsOf`.
 */
export class Meter {
  /** Connections that came to be open, by transport. */
  readonly opened = new LabelTally();
  /** Connections that were open and have ended, by {@link endReason}; those with records on the node that ended them. */
  readonly closed = new LabelTally();
  /** Connections that were refused before they were open, by the code of the error. */
  readonly refused = new LabelTally();
  /** How long connections were there, s. */
  readonly lifetime = new Histogram(LIFE_SECONDS);
  /** How long handshakes took that were passed, s. */
  readonly handshake = new Histogram(WAIT_SECONDS);

  /** Frames of peers that name no known event. */
  readonly unknown = new EventTally();
  /** Frames of peers that could not be read. */
  readonly bad = new FrameTally();
  /** Frames of peers that were refused before they were read, as they were too many. */
  readonly unread = new FrameTally();
  /** What is sent to peers besides publications. */
  readonly sent = {
    answer: new FrameTally(),
    event: new FrameTally(),
    $connected: new FrameTally(),
    $disconnect: new FrameTally(),
    $lost: new FrameTally(),
    $ping: new FrameTally(),
    $presence: new FrameTally(),
    $unsubscribed: new FrameTally(),
    skipped: new FrameTally(),
  };

  /** Errors that peers were answered, by code. */
  readonly errors = new LabelTally();
  /** What was refused as it was too much, by the limit. */
  readonly throttled = new LabelTally(['frames_per_second', 'frames_in_flight', 'held_frames', 'application']);
  heartbeatTimeouts = 0;
  /** What became of peers that read too slowly. */
  readonly slowConsumers = new LabelTally(['disconnect', 'drop_oldest', 'conflate']);
  /** Subscriptions that began with a position. */
  readonly recoveries = new LabelTally(['recovered', 'lost']);
  /** Losses that live subscriptions were told, by reason. */
  readonly losses = new LabelTally(['trimmed', 'diverged', 'epoch', 'overflow']);
  /** Members that came and went in channels with subscribers here. */
  joined = 0;
  left = 0;

  /** How long it took to give what came for channels in a turn to all their peers' sockets, s. */
  readonly fanOut = new Histogram(FAST_SECONDS);
  /** How long it took from publishing, on whatever node, to the sockets of this one, s; sampled. */
  readonly delivery = new Histogram(WAIT_SECONDS);
  /** Errors of the broker, by code. */
  readonly brokerErrors = new LabelTally(['broker_unavailable', 'outcome_unknown']);

  readonly #events = new Map<string, EventTally>(RESERVED_EVENTS.map((event) => [event, new EventTally()]));
  readonly #channels = new Map<string, ChannelTally>();
  readonly #calls = new Map<string, Histogram>();
  #sampledAt = -Infinity;

  /**
   * Names the events that the application takes, as all others are counted as one, its patterns of channels, and the
   * transports.
   */
  know(events: Iterable<unknown>, patterns: Iterable<string>, transports: Iterable<string> = []): void {
    for (const transport of transports) this.opened.add(transport, 0);
    for (const pattern of patterns) this.channel(pattern);
    for (const event of events) {
      if (typeof event === 'string' && !this.#events.has(event)) this.#events.set(event, new EventTally());
    }
  }

  /** What peers send of an event. */
  event(name: string): EventTally {
    return this.#events.get(name) ?? this.unknown;
  }

  /** What the channels of a declared pattern do. */
  channel(pattern: string): ChannelTally {
    let tally = this.#channels.get(pattern);
    if (tally === undefined) this.#channels.set(pattern, (tally = new ChannelTally()));
    return tally;
  }

  /** How long a call of the broker takes, s. */
  call(name: string): Histogram {
    let duration = this.#calls.get(name);
    if (duration === undefined) this.#calls.set(name, (duration = new Histogram(WAIT_SECONDS)));
    return duration;
  }

  /** A peer was answered with an error. */
  error(code: string): void {
    this.errors.add(isErrorCode(code) ? code : 'other');
  }

  /** Whether to take the time of the publications that are appended now, ms. */
  samples(now: number): boolean {
    if (now >= this.#sampledAt && now - this.#sampledAt < SAMPLE_MS) return false;
    this.#sampledAt = now;
    return true;
  }

  get events(): ReadonlyMap<string, EventTally> {
    return this.#events;
  }

  get channels(): ReadonlyMap<string, ChannelTally> {
    return this.#channels;
  }

  get calls(): ReadonlyMap<string, Histogram> {
    return this.#calls;
  }
}

/**
 * Why a connection ended, as one of few: the error of the table, or what the close code says, which alone counts where the
 * wire ended it, as the reason is the peer's own text then.
 */
export function endReason(
  closed: { readonly code: number; readonly reason: string } | undefined,
  byWire: boolean,
): string {
  if (closed === undefined) return 'other';
  if (!byWire && isErrorCode(closed.reason)) return closed.reason;
  if (closed.code === 1000) return 'normal';
  if (closed.code === 1001) return 'going_away';
  if (closed.code === 1006) return 'abnormal';
  return 'other';
}
