import { Batch, itemBytes, STRIDE_BYTES, strideEnd } from './batch.js';
import type { LostData } from '../protocol/frames.js';
import { parsePosition } from '../protocol/position.js';
import type { Link, RunItem } from './ports/link.js';
import type { FrameTally } from './ports/meter.js';
import type { SharedFrame } from './shared-frame.js';
import type { Turn } from './turn.js';

/** How much a link is given beyond what the kernel has taken, in bytes. */
const WINDOW_BYTES = STRIDE_BYTES;
/** What a queued entry costs besides its payload, in bytes. */
const ENTRY_OVERHEAD_BYTES = 64;

/** What happens to publications for a peer that reads too slowly. */
export type SlowConsumerPolicy = 'disconnect' | 'dropOldest' | 'conflate';

/** A subscription as the outbox sees it: where publications come from and how far the peer has been told. */
export interface Source {
  readonly channel: string;
  readonly channelJson: string;
  /** The offset of the last item or marker given to the link. What lies between it and the next item was withheld. */
  written: number;
  /** The client instance whose own publications are withheld. */
  readonly client: string | undefined;
  readonly policy: SlowConsumerPolicy;
  /** The conflation key of an item; asked only with the policy `conflate`. */
  conflationKey(item: RunItem): string;
  /** The newest entry of this source in the queue, if it holds publications that conflation may still change. */
  queued: QueuedItems | undefined;
}

/** Whom an outbox tells of its state. */
export interface OutboxOwner {
  /** The queue exceeds its bound and nothing may be dropped. */
  overflow(): void;
  /** The queue is below half of its bound again. */
  room(): void;
}

interface QueuedFrame {
  readonly kind: 'frame';
  readonly bytes: number;
  readonly buffer: Buffer;
  readonly tally: FrameTally;
}

interface QueuedItems {
  readonly kind: 'items';
  readonly source: Source;
  bytes: number;
  batch: Batch;
  /** What was withheld behind the batch. */
  marker: Marker | undefined;
}

interface QueuedEvent {
  readonly kind: 'event';
  readonly source: Source;
  readonly bytes: number;
  readonly event: '$lost' | '$unsubscribed' | '$presence';
  readonly data: unknown;
}

interface QueuedMarker {
  readonly kind: 'marker';
  readonly source: Source;
  readonly bytes: number;
  readonly marker: Marker;
}

/** How far publications were withheld. */
interface Marker {
  readonly epoch: string;
  readonly offset: number;
  readonly tag: string;
}

type Queued = QueuedFrame | QueuedItems | QueuedEvent | QueuedMarker;

/**
 * What waits for one link: this turn's chunks, written as one at its end, and behind them, where the peer reads too
 * slowly, a queue bounded in bytes that holds references to shared batches.
 *
 * Order is kept over everything that enters. Publications that a policy withholds leave a gap, which becomes one
 * `skipped` marker before the next item of the same channel.
 */
export class Outbox {
  readonly #turn: Turn;
  readonly #maxBytes: number;
  readonly #owner: OutboxOwner;
  #link: Link | undefined;
  #ready: Buffer[] = NONE;
  #scheduled = false;
  /** Whether there was no room earlier in this turn: the owner is told at its end. */
  #wasFull = false;
  /** Bytes that the link may still be given; may be negative. */
  #window = WINDOW_BYTES;
  #queue: Queued[] = EMPTY;
  #head = 0;
  #queueBytes = 0;

  constructor(turn: Turn, maxBytes: number, owner: OutboxOwner) {
    this.#turn = turn;
    this.#maxBytes = maxBytes;
    this.#owner = owner;
  }

  /** Whether less than half of the bound is used: catch-up goes on only then. */
  get hasRoom(): boolean {
    return this.#queueBytes * 2 < this.#maxBytes && this.#window > 0;
  }

  /** Starts to write to a link. */
  attach(link: Link): void {
    this.#link = link;
    this.#window = WINDOW_BYTES - link.bufferedBytes;
  }

  /** What waits for the peer, in bytes. */
  get bytes(): number {
    return this.#queueBytes + (this.#link?.bufferedBytes ?? 0);
  }

  /** Adds a frame, counted in `tally`. False: it would exceed the bound, and was not taken. */
  frame(frame: string | SharedFrame, tally: FrameTally): boolean {
    if (this.#link === undefined) return false;
    const { codec } = this.#link;
    const buffer = typeof frame === 'string' ? codec.frame(frame) : frame.encode(codec);
    const bytes = buffer.length + ENTRY_OVERHEAD_BYTES;
    if (this.#queueBytes + bytes > this.#maxBytes) this.#moveEarly();
    if (this.#link === undefined) return false;
    if (this.#takes(buffer.length)) {
      this.#giveFrame(buffer, tally);
      return true;
    }
    if (this.#queueBytes + bytes > this.#maxBytes) return false;
    this.#enqueue({ kind: 'frame', bytes, buffer, tally });
    return true;
  }

  /** Adds publications of a channel, without gap to those added before. */
  publications(source: Source, batch: Batch): void {
    const link = this.#link;
    if (link === undefined) return;
    if (batch.bytes > STRIDE_BYTES && batch.items.length > 1) this.#addStrides(source, batch.strides);
    else if (this.#takes(batch.bytes)) this.#giveBatch(source, batch, link);
    else this.#enqueueItems(source, [batch]);
  }

  /** Adds an event about a channel, after the publications of the channel added before. */
  event(source: Source, event: QueuedEvent['event'], data: unknown): void {
    const link = this.#link;
    if (link === undefined) return;
    if (this.#takes(0)) {
      this.#giveEvent(source, event, data, link);
      return;
    }
    source.queued = undefined;
    const bytes = ENTRY_OVERHEAD_BYTES + (event === '$presence' ? JSON.stringify(data).length : 128);
    this.#enqueue({ kind: 'event', source, bytes, event, data });
  }

  /** Adds a marker for what was withheld since the last item, up to a point of the channel. */
  marker(source: Source, epoch: string, offset: number, tag: string): void {
    const link = this.#link;
    const { queued, written } = source;
    const marker = { epoch, offset, tag };
    if (link === undefined) return;
    if (queued !== undefined) {
      if (queued.batch.last < offset) queued.marker = marker;
    } else if (written < offset) {
      if (this.#takes(0)) this.#giveMarker(source, marker, link);
      else this.#enqueue({ kind: 'marker', source, bytes: ENTRY_OVERHEAD_BYTES, marker });
    }
  }

  /** Writes what the turn collected as one write, and holds the queue to its bound. Called by the turn. */
  flush(): void {
    this.#scheduled = false;
    const full = this.#wasFull || !this.hasRoom;
    this.#wasFull = false;
    this.#move();
    this.#tellOfRoom(full);
  }

  /** The link has taken everything: the queue moves on. */
  drained(): void {
    if (this.#link === undefined) return;
    const full = !this.hasRoom;
    this.#window = WINDOW_BYTES - this.#link.bufferedBytes;
    this.#move();
    this.#tellOfRoom(full);
  }

  /**
   * Writes one last frame, behind everything that waits, or behind this turn's chunks alone where the queue is
   * abandoned; takes nothing any more.
   */
  end(lastFrame: string | undefined, abandonQueue: boolean): void {
    const link = this.#link;
    if (link === undefined) return;
    if (!abandonQueue) {
      this.#window = Infinity;
      this.#refill(link);
    }
    const last = lastFrame === undefined ? NONE : [link.codec.frame(lastFrame)];
    for (const { length } of last) this.#turn.meter.sent.$disconnect.add(length);
    if (this.#ready.length + last.length > 0) link.write([...this.#ready, ...last]);
    this.clear();
  }

  /** Drops everything and takes nothing any more. */
  clear(): void {
    this.#link = undefined;
    this.#ready = NONE;
    this.#queue = EMPTY;
    this.#head = 0;
    this.#queueBytes = 0;
  }

  /** What came in this turn says nothing about how fast the peer reads: the link is asked before anything is withheld. */
  #moveEarly(): void {
    this.#wasFull ||= !this.hasRoom;
    this.#move();
    this.#schedule();
  }

  #move(): void {
    while (this.#link !== undefined) {
      if (this.#ready.length > 0) {
        const chunks = this.#ready;
        this.#ready = NONE;
        this.#link.write(chunks);
        this.#window = WINDOW_BYTES - this.#link.bufferedBytes;
      }
      this.#refill(this.#link);
      if (this.#ready.length === 0) break;
    }
    if (this.#queueBytes > this.#maxBytes) this.#relieve();
  }

  /** A link that takes everything at once is never drained: what filled the window in this turn is gone all the same. */
  #tellOfRoom(wasFull: boolean): void {
    if (wasFull && this.#link !== undefined && this.hasRoom) this.#owner.room();
  }

  #takes(bytes: number): boolean {
    return this.#head === this.#queue.length && this.#fits(bytes);
  }

  /** A link that has taken everything may be given a chunk of any size. */
  #fits(bytes: number): boolean {
    return bytes <= this.#window || this.#window === WINDOW_BYTES;
  }

  #give(buffer: Buffer): void {
    // Most turns have one chunk: an array of one is smaller than one that was pushed to.
    if (this.#ready === NONE) this.#ready = [buffer];
    else this.#ready.push(buffer);
    this.#window -= buffer.length;
    this.#schedule();
  }

  #giveFrame(buffer: Buffer, tally: FrameTally): void {
    tally.add(buffer.length);
    this.#give(buffer);
  }

  #givePublications(batch: Batch, buffer: Buffer): void {
    batch.tally.delivered += batch.items.length;
    batch.tally.bytes += buffer.length;
    this.#give(buffer);
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#turn.write(this);
  }

  /** More than a link is given at once: it is asked after each stride, and what it does not take is queued. */
  #addStrides(source: Source, strides: readonly Batch[]): void {
    for (const [i, stride] of strides.entries()) {
      if (!this.#takes(stride.bytes)) this.#moveEarly();
      if (this.#link === undefined) return;
      if (!this.#takes(stride.bytes)) {
        this.#enqueueItems(source, strides.slice(i));
        return;
      }
      this.#giveBatch(source, stride, this.#link);
    }
  }

  #giveBatch(source: Source, batch: Batch, link: Link): void {
    if (
      source.written === batch.first - 1 &&
      batch.contiguous &&
      !(batch.excludes && batch.withholdsFrom(source.client))
    ) {
      source.written = batch.last;
      this.#givePublications(batch, batch.encode(link.codec));
      return;
    }
    for (const item of batch.items) {
      if (item.exclude !== undefined && item.exclude === source.client) continue;
      if (item.offset <= source.written) continue;
      const withheld = item.offset - 1 - source.written;
      if (withheld > 0) this.#giveSkipped(link.codec.skipped(batch, withheld, item.offset - 1, item.prevTag));
      const one = batch.items.length === 1 ? batch : new Batch(batch, batch.epoch, [item]);
      this.#givePublications(one, link.codec.run(one));
      source.written = item.offset;
    }
  }

  #giveEvent(source: Source, event: QueuedEvent['event'], data: unknown, link: Link): void {
    if (event === '$lost') {
      const { position, reason } = data as LostData;
      source.written = parsePosition(position)!.offset;
      this.#turn.meter.losses.add(reason);
    }
    this.#giveFrame(link.codec.channelEvent(source, event, data), this.#turn.meter.sent[event]);
  }

  #giveMarker(source: Source, { epoch, offset, tag }: Marker, link: Link): void {
    const { channel, channelJson, written } = source;
    if (written >= offset) return;
    source.written = offset;
    this.#giveSkipped(link.codec.skipped({ channel, channelJson, epoch }, offset - written, offset, tag));
  }

  #giveSkipped(buffer: Buffer): void {
    this.#giveFrame(buffer, this.#turn.meter.sent.skipped);
  }

  /** Queues publications as they are, or merges them into those of the source that wait. */
  #enqueueItems(source: Source, batches: readonly Batch[]): void {
    if (source.policy === 'conflate' && (source.queued !== undefined || batches.length > 1)) {
      this.#conflate(source, batches);
      return;
    }
    for (const batch of batches) this.#enqueueBatch(source, batch);
  }

  #enqueueBatch(source: Source, batch: Batch): void {
    const bytes = batch.bytes + ENTRY_OVERHEAD_BYTES;
    source.queued = { kind: 'items', source, bytes, batch, marker: undefined };
    this.#enqueue(source.queued);
  }

  #enqueue(entry: Queued): void {
    if (this.#queue === EMPTY) this.#queue = [];
    this.#queue.push(entry);
    this.#queueBytes += entry.bytes;
    if (this.#queueBytes > this.#maxBytes) this.#schedule();
  }

  /** Moves entries from the queue to this turn's chunks, as far as the window goes. */
  #refill(link: Link): void {
    if (this.#queue === EMPTY) return;
    while (this.#head < this.#queue.length) {
      const entry = this.#queue[this.#head]!;
      if (entry.kind === 'items' && entry.bytes > WINDOW_BYTES) this.#refillFrom(entry, link);
      if (!this.#fits(entry.bytes)) {
        if (this.#head > 64 && this.#head * 2 > this.#queue.length) {
          this.#queue = this.#queue.slice(this.#head);
          this.#head = 0;
        }
        return;
      }
      this.#head++;
      this.#queueBytes -= entry.bytes;
      switch (entry.kind) {
        case 'frame':
          this.#giveFrame(entry.buffer, entry.tally);
          break;
        case 'items':
          if (entry.source.queued === entry) entry.source.queued = undefined;
          this.#giveBatch(entry.source, entry.batch, link);
          if (entry.marker !== undefined) this.#giveMarker(entry.source, entry.marker, link);
          break;
        case 'event':
          this.#giveEvent(entry.source, entry.event, entry.data, link);
          break;
        case 'marker':
          this.#giveMarker(entry.source, entry.marker, link);
      }
    }
    this.#queue = EMPTY;
    this.#head = 0;
  }

  /** Moves strides of an entry that is larger than the window, and leaves what remains of it. */
  #refillFrom(entry: QueuedItems, link: Link): void {
    while (entry.bytes > WINDOW_BYTES && entry.batch.items.length > 1) {
      const { items } = entry.batch;
      const end = strideEnd(items, 0);
      const stride = new Batch(entry.batch, entry.batch.epoch, items.slice(0, end));
      if (end === items.length || !this.#fits(stride.bytes)) return;
      this.#giveBatch(entry.source, stride, link);
      this.#replace(entry, items.slice(end));
    }
  }

  /** Keeps the newest item of each key, of those that wait and those that come. */
  #conflate(source: Source, batches: readonly Batch[]): void {
    this.#turn.meter.slowConsumers.add('conflate');
    const { queued } = source;
    const newest = new Map<string, RunItem>();
    const take = (item: RunItem): void => {
      if (item.exclude !== undefined && item.exclude === source.client) return;
      const key = source.conflationKey(item);
      newest.delete(key);
      newest.set(key, item);
    };
    queued?.batch.items.forEach(take);
    for (const { items } of batches) items.forEach(take);
    if (newest.size === 0) return;
    const items = [...newest.values()];
    if (queued === undefined) this.#enqueueBatch(source, new Batch(batches[0]!, batches[0]!.epoch, items));
    else this.#replace(queued, items);
  }

  /** Gives an entry other items. */
  #replace(entry: QueuedItems, items: readonly RunItem[]): void {
    entry.batch = new Batch(entry.batch, entry.batch.epoch, items);
    this.#queueBytes -= entry.bytes;
    entry.bytes = entry.batch.bytes + ENTRY_OVERHEAD_BYTES;
    this.#queueBytes += entry.bytes;
    if (this.#queueBytes > this.#maxBytes) this.#schedule();
  }

  /** Over the bound: drops the oldest items of sources that allow it, down to three quarters; else gives up. */
  #relieve(): void {
    const target = this.#maxBytes * 0.75;
    const before = this.#queueBytes;
    const kept: Queued[] = [];
    for (let i = this.#head; i < this.#queue.length; i++) {
      const entry = this.#queue[i]!;
      if (this.#queueBytes <= target || entry.kind !== 'items' || entry.source.policy !== 'dropOldest') {
        kept.push(entry);
      } else if (entry !== entry.source.queued) {
        this.#queueBytes -= entry.bytes;
      } else {
        this.#dropFront(entry, target);
        kept.push(entry);
      }
    }
    this.#queue = kept;
    this.#head = 0;
    if (this.#queueBytes < before) this.#turn.meter.slowConsumers.add('drop_oldest');
    if (this.#queueBytes > this.#maxBytes) this.#owner.overflow();
  }

  /** Drops items from the front of an entry, never its last. */
  #dropFront(entry: QueuedItems, target: number): void {
    const { items } = entry.batch;
    let first = 0;
    let bytes = this.#queueBytes;
    while (first < items.length - 1 && bytes > target) bytes -= itemBytes(items[first++]!);
    this.#replace(entry, items.slice(first));
  }
}

/** The queue of everyone who has none: most connections never need one. */
const EMPTY: Queued[] = [];
/** The chunks of everyone who has none. */
const NONE: Buffer[] = [];
