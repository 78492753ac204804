import { encodeEvent } from '../protocol/encode.js';
import { isRealtimeException } from '../protocol/errors.js';
import type { DisconnectData, LostReason } from '../protocol/frames.js';
import { formatPosition, parsePosition, type Position } from '../protocol/position.js';
import { Batch, itemBytes } from './batch.js';
import { JSON_CODEC } from './json-codec.js';
import { mapBounded } from './map-bounded.js';
import type { Source } from './outbox.js';
import type { Clock } from './ports/clock.js';
import type { InboxEntry } from './ports/records.js';
import type { PollAnswer } from './ports/transport.js';
import type { Sink, Subscription } from './subscription.js';
import type { Subscriptions } from './subscriptions.js';
import type { Turn } from './turn.js';

/** What an answer holds at most; what is more comes with the next one. It holds one frame at least. */
const MAX_BYTES = 256 * 1024;
const MAX_FRAMES = 1_000;
/** Channels that are prepared at once. */
const FOLLOW_CONCURRENCY = 8;

/** What a poll needs of its node. */
export interface PollContext {
  readonly clock: Clock;
  readonly turn: Turn;
  readonly subscriptions: Subscriptions;
}

/** A channel that a poll follows. */
export interface Followed {
  readonly channel: string;
  /** Where the peer is; `undefined`: live begins now. */
  readonly since: Position | undefined;
  readonly slot: number | undefined;
}

/**
 * One poll: follows channels from where the peer is, collects what comes in one turn, and is answered at its end; with
 * nothing, when its time is over. What an answer has no room for is left to the next poll, which reads it from history.
 */
export class Poll implements Sink {
  /** The number of the link that it is. */
  link = 0;
  /** Frames of the inbox up to here have arrived. */
  readonly answered: Promise<PollAnswer>;
  readonly #channels = new Map<string, { subscription: Subscription; slot: number | undefined }>();
  readonly #wanted = new Set<string>();
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
    /** Frames of the inbox up to here have arrived. */
    readonly ack: number,
    holdMs: number,
    private readonly context: PollContext,
  ) {
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

  /** Follows channels; those that it follows already are left alone. Rejects with `broker_unavailable`. */
  async follow(channels: readonly Followed[]): Promise<void> {
    const { subscriptions } = this.context;
    const added = channels.filter(({ channel }) => !this.#wanted.has(channel));
    for (const { channel } of added) this.#wanted.add(channel);
    const begins = await mapBounded(added, FOLLOW_CONCURRENCY, async ({ channel, since }) => {
      try {
        return await subscriptions.attach(channel, since, this);
      } catch (error) {
        // A node of an older or newer version may not know the channel.
        if (isRealtimeException(error) && error.code === 'unknown_channel') return undefined;
        throw error;
      }
    });
    begins.forEach((begin, i) => {
      const { channel, slot, since } = added[i]!;
      if (begin === undefined || this.#over || !this.#wanted.has(channel)) return;
      const [subscription, { position, recovered }] = begin();
      this.#channels.set(channel, { subscription, slot });
      this.#positions.set(subscription, position);
      if (recovered === false) this.event(subscription, '$lost', { position, reason: reasonOf(since!, position) });
    });
    for (const { channel } of added) this.#channels.get(channel)?.subscription.advance();
  }

  /** Leaves the channels that are not among these. */
  keep(channels: ReadonlySet<string>): void {
    for (const channel of this.#wanted) {
      if (channels.has(channel)) continue;
      this.#wanted.delete(channel);
      const followed = this.#channels.get(channel);
      if (followed === undefined) continue;
      this.#channels.delete(channel);
      this.context.subscriptions.detach(followed.subscription);
    }
  }

  /** The frames of the inbox that have not arrived. */
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
      this.#add(batch.encode(JSON_CODEC), batch.bytes, batch.items.length);
      this.#move(source, batch.epoch, batch.last, batch.items.at(-1)!.tag);
      return;
    }
    for (const item of batch.items) {
      if (this.#full) return;
      if (item.offset <= source.written) continue;
      if (item.exclude !== undefined && item.exclude === source.client) continue;
      const withheld = item.offset - 1 - source.written;
      if (withheld > 0) this.#add(JSON_CODEC.skipped(batch, withheld, item.offset - 1, item.prevTag));
      this.#add(JSON_CODEC.run(new Batch(batch, batch.epoch, [item])), itemBytes(item));
      this.#move(source, batch.epoch, item.offset, item.tag);
    }
  }

  event(source: Source, event: '$lost' | '$presence', data: unknown): void {
    if (!this.hasRoom) return;
    this.#add(JSON_CODEC.channelEvent(source, event, data));
    if (event !== '$lost') return;
    const { position } = data as { position: Position };
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
    for (const { subscription } of this.#channels.values()) subscription.settle();
    this.#end(false, last === undefined ? [] : [JSON_CODEC.frame(encodeEvent('$disconnect', last))]);
  }

  /** A newer poll of the same connection took over, or the peer is gone: this one tells nothing. */
  supersede(): void {
    if (this.#over) return;
    this.#chunks = [];
    this.#entries = [];
    this.#end(true, []);
  }

  #end(superseded: boolean, last: readonly Buffer[]): void {
    this.#over = true;
    this.#cancelTimer();
    const positions = new Map<string, { position: Position; slot: number | undefined }>();
    for (const [channel, { subscription, slot }] of this.#channels) {
      if (!superseded) positions.set(channel, { position: this.#positions.get(subscription)!, slot });
      this.context.subscriptions.detach(subscription);
    }
    this.#channels.clear();
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

/** Why a position cannot be recovered from, as far as the top tells. */
function reasonOf(since: Position, top: Position): LostReason {
  const from = parsePosition(since);
  const to = parsePosition(top)!;
  if (from?.epoch !== to.epoch) return 'epoch';
  return from.offset >= to.offset ? 'diverged' : 'trimmed';
}
