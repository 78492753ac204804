import type { SubscribeData, LostReason } from '../protocol/frames.js';
import { formatPosition, parsePosition, type Position, type PositionParts } from '../protocol/position.js';
import { Batch, itemBytes } from './batch.js';
import { PAGE_ITEMS, type Channel, type Subscriber } from './channel.js';
import type { ChannelDefinition } from './definition.js';
import type { Membership } from './membership.js';
import type { SlowConsumerPolicy, Source } from './outbox.js';
import type { ReadResult } from './ports/broker.js';
import type { RunItem } from './ports/link.js';

/** Where a subscription's publications go: a connection's outbox, or a reader inside the process. */
export interface Sink {
  /** The client instance whose own publications are withheld. */
  readonly client: string | undefined;
  /** Whether catching up may go on; the owner calls {@link Subscription.advance} when it may again. */
  readonly hasRoom: boolean;
  publications(source: Source, batch: Batch): void;
  event(source: Source, event: '$lost' | '$presence', data: unknown): void;
  /** The position has moved to a point over publications that were all withheld. */
  marker(source: Source, epoch: string, offset: number, tag: string): void;
}

/** How much of a page is written before the sink is asked again, in bytes. */
const STRIDE_BYTES = 64 * 1024;

/**
 * One subscriber of a channel: `authorising → catching-up → live → ended`. While it catches up the
 * history is the buffer: nothing live is written, pages are read as the sink has room, and it goes live in the turn in
 * which it reaches this node's position.
 */
export class Subscription implements Subscriber, Source, Membership {
  written = 0;
  queued: Source['queued'] = undefined;
  #state: 'authorising' | 'catching-up' | 'live' | 'ended' = 'authorising';
  /** Where the sink is, while catching up. */
  #at: PositionParts = NOWHERE;
  #busy = false;

  constructor(
    readonly of: Channel,
    private readonly sink: Sink,
    /** The application subscribed the peer, without asking guards, hooks and grants. */
    readonly trusted = false,
  ) {}

  get channel(): string {
    return this.of.channel;
  }

  get channelJson(): string {
    return this.of.channelJson;
  }

  get definition(): ChannelDefinition {
    return this.of.definition;
  }

  get client(): string | undefined {
    return this.sink.client;
  }

  get policy(): SlowConsumerPolicy {
    return this.of.definition.policy;
  }

  get state(): 'authorising' | 'catching-up' | 'live' | 'ended' {
    return this.#state;
  }

  conflationKey(item: RunItem): string {
    return this.of.conflationKey(item);
  }

  /** Finds out whether a position can be recovered from. The answer is given by {@link begin}. */
  async resolve(since: Position | undefined): Promise<Resolved> {
    if (since === undefined) return undefined;
    const point = parsePosition(since);
    if (point === undefined) return { point: undefined };
    const tail = this.of.after(point);
    if (tail !== undefined) return { point, until: this.of.position };
    const { status, top } = await this.of.read(since, 0);
    return status === 'ok' ? { point, until: top } : { point: undefined };
  }

  /** Starts the subscription; the answer must be written before this turn ends, and before anything else of the channel. */
  begin(resolved: Resolved): SubscribeData {
    this.of.flush();
    this.of.subscribers.add(this);
    const { size, ttlMs } = this.of.definition.retention;
    const window = { size, windowMs: size === 0 ? 0 : ttlMs };
    if (resolved?.point === undefined) {
      this.#state = 'live';
      this.written = this.of.top.offset;
      const { position } = this.of;
      return resolved === undefined ? { position, ...window } : { position, recovered: false, ...window };
    }
    const { point, until } = resolved;
    this.#at = point;
    this.written = point.offset;
    this.#state = 'catching-up';
    return { position: formatPosition(point.epoch, point.offset, point.tag), recovered: true, until, ...window };
  }

  /** Ends the subscription: nothing more is written. */
  end(): void {
    this.of.flush();
    this.of.subscribers.delete(this);
    this.#state = 'ended';
  }

  deliver(batch: Batch): void {
    if (this.#state === 'live') this.sink.publications(this, batch);
  }

  lost(position: Position, reason: LostReason): void {
    if (this.#state === 'live') this.sink.event(this, '$lost', { position, reason });
    else this.advance();
  }

  notify(event: '$presence', data: unknown): void {
    if (this.#state === 'live' || this.#state === 'catching-up') this.sink.event(this, event, data);
  }

  /** Hands over what has come so far, and tells where that ends. */
  settle(): Position {
    this.mark();
    if (this.#state === 'live') return this.of.position;
    const { epoch, offset, tag } = this.#at;
    this.sink.marker(this, epoch, offset, tag); // the last items of a page may be withheld
    return formatPosition(epoch, offset, tag);
  }

  /** Tells the peer where it is, if publications were withheld since the last one it got. */
  mark(): void {
    this.of.flush(); // what waits for the end of this turn is not withheld
    const { epoch, top } = this.of;
    if (this.#state === 'live') this.sink.marker(this, epoch, top.offset, top.tag);
  }

  /** Goes on catching up, if that is what it does and the sink has room; where it is live, tells what was withheld. */
  advance(): void {
    this.mark();
    if (this.#state !== 'catching-up' || this.#busy) return;
    if (this.#finish() || !this.sink.hasRoom || this.of.state !== 'steady') return;
    this.#busy = true;
    void this.#readPage().then(
      (progress) => {
        this.#busy = false;
        if (progress) this.advance();
      },
      () => {
        this.#busy = false;
        this.of.check();
      },
    );
  }

  /** Goes live where this node holds everything that is missing (D3.3 a, b). */
  #finish(): boolean {
    const missing = this.of.after(this.#at);
    if (missing === undefined) return false;
    this.of.flush();
    if (!this.#write(missing)) return false;
    this.#state = 'live';
    this.mark();
    return true;
  }

  /** Reads and writes one page (D3.3 c). False: nothing changed, something else must happen first. */
  async #readPage(): Promise<boolean> {
    const at = this.#at;
    const position = formatPosition(at.epoch, at.offset, at.tag);
    const page = await this.of.read(position, PAGE_ITEMS);
    if (this.#state !== 'catching-up') return false;
    if (page.status !== 'ok') {
      this.#lose(page.status);
      return false;
    }
    const items = this.#wanted(page, at);
    if (items.length > 0) {
      this.#write(items);
      return true;
    }
    if (this.of.after(this.#at) !== undefined) return true;
    this.of.check();
    return false;
  }

  /** The items of a page that this node has passed; what lies beyond comes live. */
  #wanted(page: ReadResult, at: PositionParts): RunItem[] {
    const end = at.epoch === this.of.epoch ? this.of.top.offset : -1;
    return this.of.link(page.items, at.tag, at.epoch).filter((item) => item.offset <= end);
  }

  /** Writes items while the sink has room. True: all were written. */
  #write(items: readonly RunItem[]): boolean {
    let start = 0;
    while (start < items.length) {
      if (!this.sink.hasRoom) return false;
      let end = start;
      let bytes = 0;
      while (end < items.length && bytes < STRIDE_BYTES) bytes += itemBytes(items[end++]!);
      this.sink.publications(this, new Batch(this.of, this.#at.epoch, items.slice(start, end)));
      const last = items[end - 1]!;
      this.#at = { epoch: this.#at.epoch, offset: last.offset, tag: last.tag };
      start = end;
    }
    return true;
  }

  #lose(reason: LostReason): void {
    this.of.flush();
    this.sink.event(this, '$lost', { position: this.of.position, reason });
    this.#state = 'live';
  }
}

/** What is known of a given position: absent where none was given; `point` absent where it cannot be recovered from. */
export type Resolved = undefined | { point: undefined } | { point: PositionParts; until: Position };

const NOWHERE: PositionParts = { epoch: '', offset: 0, tag: '0' };
