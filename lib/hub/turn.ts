import type { Clock } from './ports/clock.js';
import { Meter } from './ports/meter.js';

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
  #scheduled = false;

  constructor(
    clock: Clock,
    /** What the node counts, for all who work in its turns. */
    readonly meter = new Meter(),
  ) {
    this.#clock = clock;
  }

  /** Has `publisher.flush` called first. Call once per turn. */
  append(publisher: Flushable): void {
    this.#publishers.push(publisher);
    this.#schedule();
  }

  /** Has `channel.flush` called after all appends. Call once per turn. */
  fanOut(channel: Flushable): void {
    this.#channels.push(channel);
    this.#schedule();
  }

  /** Has the time taken from when something was published until this turn's channels are with their peers' sockets. */
  published(at: number): void {
    this.#publishedAt.push(at);
  }

  /** Has `outbox.flush` called last. Call once per turn. */
  write(outbox: Flushable): void {
    this.#outboxes.push(outbox);
    this.#schedule();
  }

  #fanOut(): void {
    const begun = performance.now();
    this.#channels = drain(this.#channels);
    this.#outboxes = drain(this.#outboxes);
    this.meter.fanOut.observe((performance.now() - begun) / 1_000);
    if (this.#publishedAt.length === 0) return;
    const now = this.#clock.now();
    for (const at of this.#publishedAt) this.meter.delivery.observe((now - at) / 1_000);
    this.#publishedAt = [];
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#clock.turn(() => this.#run());
  }

  #run(): void {
    this.#publishers = drain(this.#publishers);
    if (this.#channels.length > 0) this.#fanOut();
    else this.#outboxes = drain(this.#outboxes);
    this.#scheduled = false;
    if (this.#publishers.length + this.#channels.length + this.#outboxes.length > 0) this.#schedule();
  }
}

/** Flushes the members of a list in order; what is added meanwhile too. Gives the list back, empty. */
function drain(list: Flushable[]): Flushable[] {
  for (const member of list) member.flush();
  list.length = 0;
  return list;
}
