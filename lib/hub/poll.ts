import { encodeEvent } from '../protocol/encode.js';
import type { DisconnectData, LostReason, SubscribeData } from '../protocol/frames.js';
import { formatPosition, parsePosition, type Position } from '../protocol/position.js';
import { Batch, itemBytes } from './batch.js';
import { Following } from './following.js';
import { JSON_CODEC } from './json-codec.js';
import type { Source } from './outbox.js';
import type { Clock } from './ports/clock.js';
import type { InboxEntry } from './ports/records.js';
import type { PollAnswer } from './ports/transport.js';
import { GAP_MS, type RecordLink } from './record-link.js';
import type { Subscription } from './subscription.js';
import type { Subscriptions } from './subscriptions.js';
import type { Turn } from './turn.js';

/** What an answer holds at most; what is more comes with the next one. It holds one frame at least. */
const MAX_BYTES = 256 * 1024;
const MAX_FRAMES = 1_000;

/** What a poll needs of its node. */
export interface PollContext {
  readonly clock: Clock;
  readonly turn: Turn;
  readonly subscriptions: Subscriptions;
}

/**
 * One poll: follows channels from where the peer is, collects what comes in one turn, and is answered at its end; with
 * nothing, when its time is over. What an answer has no room for is left to the next poll, which reads it from history.
 */
export class Poll extends Following implements RecordLink {
  number = 0;
  readonly dueMs = 2 * GAP_MS;
  readonly answered: Promise<PollAnswer>;
  readonly #positions = new Map<Source, Position>();
  #chunks: Buffer[] = [];
  #bytes = 0;
  #frames = 0;
  #full = false;
  #entries: readonly InboxEntry[] = [];
  #scheduled = false;
  #over = false;
  #resolve!: (answer: PollAnswer) => void;
  readonly #cancelTimer: () => void;

  constructor(
    readonly client: string | undefined,
    readonly ack: number,
    holdMs: number,
    private readonly context: PollContext,
  ) {
    super(context.subscriptions);
    this.answered = new Promise((resolve) => (this.#resolve = resolve));
    this.#cancelTimer = context.clock.after(holdMs, () => this.finish());
  }

  /** Whether it was answered, or is not to be answered any more. */
  get over(): boolean {
    return this.#over;
  }

  get hasRoom(): boolean {
    return !this.#full && !this.#over;
  }

  protected override began(subscription: Subscription, { position }: SubscribeData): void {
    this.#positions.set(subscription, position);
  }

  inbox(entries: readonly InboxEntry[]): void {
    this.#entries = entries;
    if (entries.length > 0) this.#arrived();
  }

  publications(source: Source, batch: Batch): void {
    if (!this.hasRoom) return;
    const whole =
      source.written === batch.first - 1 &&
      batch.contiguous &&
      !batch.withholdsFrom(source.client) &&
      this.#bytes + batch.bytes <= MAX_BYTES &&
      this.#frames + batch.items.length <= MAX_FRAMES;
    if (whole) {
      this.#add(this.#counted(batch, batch.encode(JSON_CODEC)), batch.bytes, batch.items.length);
      this.#move(source, batch.epoch, batch.last, batch.items.at(-1)!.tag);
      return;
    }
    for (const item of batch.items) {
      if (this.#full) return;
      if (item.offset <= source.written) continue;
      if (item.exclude !== undefined && item.exclude === source.client) continue;
      const withheld = item.offset - 1 - source.written;
      if (withheld > 0) this.#add(JSON_CODEC.skipped(batch, withheld, item.offset - 1, item.prevTag));
      const one = new Batch(batch, batch.epoch, [item]);
      this.#add(this.#counted(one, JSON_CODEC.run(one)), itemBytes(item));
      this.#move(source, batch.epoch, item.offset, item.tag);
    }
  }

  event(source: Source, event: '$lost' | '$presence', data: unknown): void {
    if (!this.hasRoom) return;
    this.#add(JSON_CODEC.channelEvent(source, event, data));
    if (event !== '$lost') return;
    const { position, reason } = data as { position: Position; reason: LostReason };
    this.context.turn.meter.losses.add(reason);
    source.written = parsePosition(position)!.offset;
    this.#positions.set(source, position);
  }

  marker(source: Source, epoch: string, offset: number, tag: string): void {
    if (!this.hasRoom || source.written >= offset) return;
    const { channel, channelJson, written } = source;
    this.#add(JSON_CODEC.skipped({ channel, channelJson, epoch }, offset - written, offset, tag));
    this.#move(source, epoch, offset, tag);
  }

  /** The turn is over in which something came. Called by the turn. */
  flush(): void {
    this.#scheduled = false;
    this.finish();
  }

  /** Answers with what there is; `last` is told behind all else. */
  finish(last?: DisconnectData): void {
    if (this.#over) return;
    for (const { subscription } of this.followed.values()) subscription.settle();
    this.#end(false, last === undefined ? [] : [JSON_CODEC.frame(encodeEvent('$disconnect', last))]);
  }

  /** A newer link of the same connection took over, or the peer is gone: this poll tells nothing. */
  supersede(): void {
    if (this.#over) return;
    this.#chunks = [];
    this.#entries = [];
    this.#end(true, []);
  }

  abandon(): void {
    this.supersede();
  }

  #end(superseded: boolean, last: readonly Buffer[]): void {
    this.#over = true;
    this.#cancelTimer();
    const positions = new Map<string, { position: Position; slot: number | undefined }>();
    if (!superseded) {
      for (const [channel, { subscription, place }] of this.followed) {
        positions.set(channel, { position: this.#positions.get(subscription)!, slot: place.slot });
      }
    }
    this.leaveAll();
    const entries = this.#entries;
    const frames = [...this.#chunks, ...entries.map(({ text }) => JSON_CODEC.frame(text)), ...last];
    this.#resolve({ frames, positions, inbox: entries.at(-1)?.n ?? this.ack, superseded });
  }

  #add(chunk: Buffer, bytes = chunk.length, frames = 1): void {
    if (this.#full) return;
    this.#chunks.push(chunk);
    this.#bytes += bytes;
    this.#frames += frames;
    if (this.#bytes >= MAX_BYTES || this.#frames >= MAX_FRAMES) this.#full = true;
    this.#arrived();
  }

  #counted({ tally, items }: Batch, chunk: Buffer): Buffer {
    tally.delivered += items.length;
    tally.bytes += chunk.length;
    return chunk;
  }

  #move(source: Source, epoch: string, offset: number, tag: string): void {
    source.written = offset;
    this.#positions.set(source, formatPosition(epoch, offset, tag));
  }

  #arrived(): void {
    if (this.#scheduled || this.#over) return;
    this.#scheduled = true;
    this.context.turn.write(this);
  }
}
