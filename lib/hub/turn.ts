import type { Clock } from './ports/clock.js';
import { Meter } from './ports/meter.js';
import type { TraceSpan, Tracing } from './ports/tracing.js';

/** Something that collects work during a turn and does it at the turn's end. */
export interface Flushable {
  flush(): void;
}

/**
 * The end of an event-loop turn: what was published is appended, then each channel's publications become one batch,
 * then each connection's frames become one write. An in-process broker announces while it appends, so that a
 * publication reaches the wire in the turn in which it was made.
 */
export class Turn {
  readonly #clock: Clock;
  #publishers: Flushable[] = [];
  #channels: Flushable[] = [];
  #outboxes: Flushable[] = [];
  /** When publications of this turn were made, of those whose time is taken: ms since 1970. */
  #publishedAt: number[] = [];
  /** Spans of what is given to peers in this turn. */
  #deliveries: TraceSpan[] = [];
  #scheduled = false;
  /** Whether a channel of this turn is one whose fan-out is timed. */
  #timed = false;

  constructor(
    clock: Clock,
    /** What the node counts, for all who work in its turns. */
    readonly meter = new Meter(),
    /** Who traces what the node does, for all who work in its turns; mostly nobody. */
    readonly tracing?: Tracing,
  ) {
    this.#clock = clock;
  }

  /** Has `publisher.flush` called first. Call once per turn. */
  append(publisher: Flushable): void {
    this.#publishers.push(publisher);
    this.#schedule();
  }

  /** Has `channel.flush` called after all appends. Call once per turn; a turn without `timed` ones is not observed. */
  fanOut(channel: Flushable, timed = true): void {
    this.#channels.push(channel);
    if (timed) this.#timed = true;
    this.#schedule();
  }

  /** Has the time taken from when something was published until this turn's channels are with their peers' sockets. */
  published(at: number): void {
    this.#publishedAt.push(at);
  }

  /** Has a span ended when this turn's channels are with their peers' sockets. */
  delivering(span: TraceSpan): void {
    this.#deliveries.push(span);
  }

  /** Has `outbox.flush` called last. Call once per turn. */
  write(outbox: Flushable): void {
    this.#outboxes.push(outbox);
    this.#schedule();
  }

  #fanOut(): void {
    const timed = this.#timed;
    this.#timed = false;
    const begun = performance.now();
    this.#channels = drain(this.#channels);
    this.#outboxes = drain(this.#outboxes);
    if (timed) this.meter.fanOut.observe((performance.now() - begun) / 1_000);
    if (this.#deliveries.length > 0) this.#delivered();
    if (this.#publishedAt.length === 0) return;
    const now = this.#clock.now();
    for (const at of this.#publishedAt) this.meter.delivery.observe((now - at) / 1_000);
    this.#publishedAt = [];
  }

  #delivered(): void {
    const deliveries = this.#deliveries;
    this.#deliveries = [];
    for (const span of deliveries) span.end();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    const { tracing } = this;
    if (tracing === undefined) this.#clock.turn(() => this.#run());
    else this.#clock.turn(() => tracing.outside(() => this.#run())); // it is not for whoever was first alone
  }

  #run(): void {
    try {
      this.#publishers = drain(this.#publishers);
      if (this.#channels.length > 0) this.#fanOut();
      else this.#outboxes = drain(this.#outboxes);
    } finally {
      this.#scheduled = false; // a defect that throws must not be the last thing that a node does
      if (this.#publishers.length + this.#channels.length + this.#outboxes.length > 0) this.#schedule();
    }
  }
}

/**
 * Flushes the members of a list in order; what is added meanwhile too. Gives the list back, empty; where a member throws,
 * those behind it are left.
 */
function drain(list: Flushable[]): Flushable[] {
  let done = 0;
  try {
    while (done < list.length) list[done++]!.flush();
  } finally {
    if (done === list.length) list.length = 0;
    else list.splice(0, done);
  }
  return list;
}
