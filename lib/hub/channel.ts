import { formatPosition, parsePosition, type Position, type PositionParts } from '../protocol/position.js';
import type { LostReason } from '../protocol/frames.js';
import { Batch, itemBytes, type ChannelName } from './batch.js';
import { Publication } from './publication.js';
import type { BrokerSession, Envelope, Point, ReadResult, StoredItem } from './ports/broker.js';
import { carry } from './payload.js';
import type { Clock } from './ports/clock.js';
import type { RunItem } from './ports/link.js';
import type { ChannelTally } from './ports/meter.js';
import { publishedAt, tracesOf } from './note.js';
import type { ChannelDefinition } from './definition.js';
import type { ReadGate } from './read-gate.js';
import type { Turn } from './turn.js';

const TAIL_ITEMS = 128;
const TAIL_BYTES = 64 * 1024;
const HELD_BYTES = 256 * 1024;
/** Items per read of the history. */
export const PAGE_ITEMS = 100;
const READ_RETRY_MS = 500;
/** How much later than the answer to the periodic check an announcement may come. */
const LATE_MS = 500;

type Part = Envelope['items'][number];

/** What the channel tells those who subscribed to it on this node. */
export interface Subscriber {
  /** The channel's publications of this turn; called in order and without gap. */
  deliver(batch: Batch): void;
  /** Publications were lost; the channel goes on after `position`. */
  lost(position: Position, reason: LostReason): void;
  /** An event of the channel that is no publication. */
  notify(event: '$presence', data: unknown): void;
  /** The channel's position or state changed: catching up may go on. */
  advance(): void;
}

/** What a channel needs of its node. */
export interface ChannelContext {
  readonly broker: BrokerSession;
  readonly clock: Clock;
  readonly turn: Turn;
  readonly reads: ReadGate;
  /** Larger data goes to subscribers as a reference. */
  readonly inlineBytes: number;
}

/**
 * One channel on this node: `idle → joining → steady ⇄ reading`. Follows the broker's log without gap,
 * repairs gaps from history, and tells its subscribers what could not be repaired.
 */
export class Channel implements ChannelName {
  readonly channel: string;
  readonly channelJson: string;
  readonly subscribers = new Set<Subscriber>();
  /** When the last subscriber left, by the hub's clock; 0 while there are any. */
  emptySince = 0;
  readonly definition: ChannelDefinition;
  readonly tally: ChannelTally;
  readonly #context: ChannelContext;
  readonly #inlineBytes: number;
  /** Whether it is one of the nodes among themselves, which is not to be seen among those of peers. */
  readonly #ofNodes: boolean;
  #state: 'idle' | 'joining' | 'steady' | 'reading' = 'idle';
  #joined: Promise<void> | undefined;
  #epoch = '';
  #top: Point = { offset: 0, tag: '0' };
  /** Newest delivered items, oldest first. */
  #tail: RunItem[] = [];
  #tailBytes = 0;
  #lastItemAt = 0;
  /** Items of this turn, in the tail already, not yet with the subscribers. */
  #pending: RunItem[] = [];
  #held: Envelope[] = [];
  #heldBytes = 0;
  #again = false;
  #cancelLate: (() => void) | undefined;
  #cancelRetry: (() => void) | undefined;
  #keys: WeakMap<RunItem, string> | undefined;

  constructor(channel: string, definition: ChannelDefinition, context: ChannelContext) {
    this.channel = channel;
    this.definition = definition;
    this.channelJson = JSON.stringify(channel);
    this.tally = context.turn.meter.channel(definition.pattern);
    this.#context = context;
    this.#ofNodes = definition.pattern.startsWith('$');
    // A reference needs a history to point into, and conflating needs the data.
    const refers = definition.retention.size > 0 && definition.conflateBy === undefined;
    this.#inlineBytes = refers ? context.inlineBytes : Infinity;
  }

  get state(): 'idle' | 'joining' | 'steady' | 'reading' {
    return this.#state;
  }

  /** Where this node is: everything up to here has been given to the subscribers or is about to be, this turn. */
  get position(): Position {
    return formatPosition(this.#epoch, this.#top.offset, this.#top.tag);
  }

  get epoch(): string {
    return this.#epoch;
  }

  get top(): Point {
    return this.#top;
  }

  /** Resolves once the channel follows the log. Rejects with `broker_unavailable`; the next call tries again. */
  join(): Promise<void> {
    this.#joined ??= this.#join().catch((error: unknown) => {
      this.#joined = undefined;
      this.#state = 'idle';
      throw error;
    });
    return this.#joined;
  }

  async #join(): Promise<void> {
    this.#state = 'joining';
    await this.#context.broker.subscribe(this.channel);
    const { top } = await this.read(null, 0);
    this.#moveTo(parse(top));
    this.#state = 'steady';
    this.#applyHeld();
  }

  /** Reads the log, within the node's bound of reads in flight. */
  read(position: Position | null, limit: number): Promise<ReadResult> {
    return this.#context.reads.run(() => this.#context.broker.read(this.channel, position, limit));
  }

  /** Ends following; the caller has made sure that nobody subscribes. */
  leave(): void {
    this.#cancelRetry?.();
    this.#cancelLate?.();
    this.#state = 'idle';
    this.#joined = undefined;
    this.#held = [];
    this.#tail = [];
  }

  /** An announcement came. */
  announce(envelope: Envelope): void {
    switch (this.#state) {
      case 'steady':
        if (!this.#apply(envelope)) this.check();
        return;
      case 'joining':
      case 'reading':
        this.#hold(envelope);
        return;
      case 'idle':
        return;
      default:
        this.#state satisfies never;
    }
  }

  /** Reads what follows this node's position: announcements may have been lost. */
  check(): void {
    if (this.#state === 'reading') this.#again = true;
    if (this.#state !== 'steady') return;
    this.#state = 'reading';
    void this.#read();
  }

  /**
   * The top that the broker named in the periodic check, and this node's position when it was asked. What has come since
   * tells that nothing is missing before it: each announcement names its predecessor.
   */
  compare(top: Position, asked: Position): void {
    const { position } = this;
    if (this.#state !== 'steady' || position !== asked || top === position) return;
    const { epoch, offset } = parse(top);
    const late = epoch === this.#epoch && offset > this.#top.offset;
    if (!late || this.definition.retention.size > 0) this.check();
    else this.#checkLate(position);
  }

  /** Announcements may be on their way. A history holds them meanwhile; without one, reading past them is losing them. */
  #checkLate(position: Position): void {
    this.#cancelLate?.();
    this.#cancelLate = this.#context.clock.after(LATE_MS, () => {
      if (this.position === position) this.check();
    });
  }

  /** Gives the subscribers what came in this turn. Called by the turn, and before anybody joins, leaves or is told a position. */
  flush(): void {
    if (this.#pending.length === 0) return;
    const batch = new Batch(this, this.#epoch, this.#pending);
    this.#pending = [];
    for (const subscriber of this.subscribers) subscriber.deliver(batch);
  }

  /** What tells an item's successors that they replace it, for slow consumers. Items without a key replace nothing. */
  conflationKey(item: RunItem): string {
    const { conflateBy } = this.definition;
    let key = this.#keys?.get(item);
    if (key === undefined) {
      try {
        key = `k${String(conflateBy?.(new Publication(this.channel, this.#epoch, item)))}`;
      } catch {
        key = `o${item.offset}`;
      }
      (this.#keys ??= new WeakMap()).set(item, key);
    }
    return key;
  }

  /**
   * What follows a point that this node still holds, oldest first; `undefined` if it does not hold it. The node's own
   * position is followed by nothing. Holds nothing that the channel's retention would not.
   */
  after(point: PositionParts): readonly RunItem[] | undefined {
    if (point.epoch !== this.#epoch) return undefined;
    if (point.offset === this.#top.offset) return point.tag === this.#top.tag ? [] : undefined;
    const oldest = this.#tail[0];
    if (oldest === undefined || this.#top.offset - point.offset > this.definition.retention.size) return undefined;
    if (this.#context.clock.now() - this.#lastItemAt >= this.definition.retention.ttlMs) return undefined;
    const index = point.offset - oldest.offset + 1;
    const next = index >= 0 ? this.#tail[index] : undefined;
    if (next === undefined || next.prevTag !== point.tag) return undefined;
    return this.#tail.slice(index);
  }

  /** The offset of the oldest item that this node holds; above the top where it holds none. */
  get tailStart(): number {
    return this.#tail[0]?.offset ?? this.#top.offset + 1;
  }

  #apply(envelope: Envelope): boolean {
    const { epoch, prev, items } = envelope;
    if (epoch === this.#epoch && prev.offset === this.#top.offset && prev.tag === this.#top.tag) {
      let prevTag = prev.tag;
      this.#deliver(
        items.map((item, index) => {
          const delivered = this.#item(item, envelope.first + index, envelope.tag, prevTag, epoch);
          prevTag = envelope.tag;
          return delivered;
        }),
      );
      if (envelope.note !== undefined && this.subscribers.size > 0) this.#noted(envelope.note, items);
      return true;
    }
    return epoch === this.#epoch && this.#holds(envelope.first + items.length - 1, envelope.tag);
  }

  #noted(note: string, items: readonly Part[]): void {
    const { turn } = this.#context;
    const at = publishedAt(note);
    if (at !== undefined) turn.published(at);
    if (turn.tracing === undefined) return;
    const { channel, definition, subscribers } = this;
    const of = { channel, pattern: definition.pattern, subscribers: subscribers.size };
    for (const { index, context } of tracesOf(note, items.length)) {
      const span = turn.tracing.delivery({ ...of, event: items[index]!.event }, context);
      if (span !== undefined) turn.delivering(span);
    }
  }

  /** Gives stored items their predecessors. */
  link(items: readonly StoredItem[], prevTag: string, epoch: string): RunItem[] {
    return items.map((item) => {
      const linked = this.#item(item, item.offset, item.tag, prevTag, epoch);
      prevTag = item.tag;
      return linked;
    });
  }

  #item({ event, data, exclude }: Part, offset: number, tag: string, prevTag: string, epoch: string): RunItem {
    const item = { event, data, offset, tag, prevTag };
    return carry(exclude === undefined ? item : { ...item, exclude }, epoch, this.#inlineBytes);
  }

  #holds(offset: number, tag: string): boolean {
    if (offset === this.#top.offset) return tag === this.#top.tag;
    const oldest = this.#tail[0];
    return oldest !== undefined && this.#tail[offset - oldest.offset]?.tag === tag;
  }

  #deliver(items: readonly RunItem[]): void {
    const last = items[items.length - 1];
    if (last === undefined) return;
    if (this.#pending.length === 0) this.#context.turn.fanOut(this, !this.#ofNodes && this.subscribers.size > 0);
    for (const item of items) {
      this.#pending.push(item);
      this.#tail.push(item);
      this.#tailBytes += itemBytes(item);
    }
    this.#top = last;
    this.#lastItemAt = this.#context.clock.now();
    if (this.#tail.length > TAIL_ITEMS * 2 || this.#tailBytes > TAIL_BYTES) this.#trimTail();
  }

  /** Keeps the tail within its bounds; trims to half at once, so that each item is moved once. */
  #trimTail(): void {
    let drop = Math.max(0, this.#tail.length - TAIL_ITEMS);
    let bytes = this.#tailBytes;
    for (let i = 0; i < drop; i++) bytes -= itemBytes(this.#tail[i]!);
    while (bytes > TAIL_BYTES / 2 && drop < this.#tail.length) bytes -= itemBytes(this.#tail[drop++]!);
    this.#tail = this.#tail.slice(drop);
    this.#tailBytes = bytes;
  }

  #moveTo(position: PositionParts): void {
    this.#epoch = position.epoch;
    this.#top = position;
    this.#tail = [];
    this.#tailBytes = 0;
  }

  #hold(envelope: Envelope): void {
    for (const item of envelope.items) this.#heldBytes += itemBytes(item);
    if (this.#heldBytes > HELD_BYTES) {
      this.#held = [];
      this.#heldBytes = 0;
      this.#again = true;
    } else {
      this.#held.push(envelope);
    }
  }

  async #read(): Promise<void> {
    this.#again = false;
    try {
      let more = true;
      while (more && this.#state === 'reading') {
        const { status, top, items, more: left } = await this.read(this.position, PAGE_ITEMS);
        if (this.#state !== 'reading') return;
        if (status === 'ok') this.#deliver(this.link(items, this.#top.tag, this.#epoch));
        else this.#lose(parse(top), status);
        more = left;
      }
    } catch {
      if (this.#state !== 'reading') return;
      this.#cancelRetry?.();
      this.#cancelRetry = this.#context.clock.after(READ_RETRY_MS, () => void this.#read());
      return;
    }
    this.#state = 'steady';
    this.#applyHeld();
  }

  #lose(top: PositionParts, reason: LostReason): void {
    this.flush();
    this.#moveTo(top);
    for (const subscriber of this.subscribers) subscriber.lost(this.position, reason);
  }

  /** Applies what was held; those contained in the read are in the tail, hence repeated. */
  #applyHeld(): void {
    const held = this.#held;
    const again = this.#again;
    this.#held = [];
    this.#heldBytes = 0;
    this.#again = false;
    for (let i = 0; i < held.length; i++) {
      if (this.#apply(held[i]!)) continue;
      this.check();
      for (const later of held.slice(i + 1)) this.#hold(later);
      return;
    }
    if (again) this.check();
    for (const subscriber of this.subscribers) subscriber.advance();
  }
}

function parse(position: Position): PositionParts {
  const parts = parsePosition(position);
  if (parts === undefined) throw new TypeError('The broker named a position that is none');
  return parts;
}
