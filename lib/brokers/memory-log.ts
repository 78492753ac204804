import type {
  AppendItem,
  AppendResult,
  Envelope,
  Point,
  ReadResult,
  Retention,
  StoredItem,
} from '../hub/ports/broker.js';
import { formatPosition, parsePosition } from '../protocol/position.js';
import type { Position, PositionParts } from '../protocol/position.js';
import type { Scheduled } from '../hub/deadlines.js';

/** Idempotency keys that a channel remembers. */
const MAX_KEYS = 1_000;
/** How long a channel remembers an idempotency key. */
const KEY_TTL_MS = 300_000;

interface KnownKey {
  readonly position: Position;
  readonly until: number;
}

/** Items in order: added at the end, dropped at the start, both in constant time on average at any length. */
class Window<T> {
  private slots: (T | undefined)[] = [];
  private head = 0;

  get length(): number {
    return this.slots.length - this.head;
  }

  at(index: number): T | undefined {
    return index < 0 ? undefined : this.slots[this.head + index];
  }

  slice(from: number, to: number): T[] {
    return this.slots.slice(this.head + from, this.head + to) as T[];
  }

  push(item: T): void {
    this.slots.push(item);
  }

  keepOldest(count: number): void {
    this.slots.length = this.head + Math.min(count, this.length);
  }

  keepNewest(count: number): void {
    const dropped = this.length - count;
    if (dropped <= 0) return;
    this.slots.fill(undefined, this.head, this.head + dropped);
    this.head += dropped;
    if (this.head * 2 < this.slots.length) return;
    this.slots = this.slots.slice(this.head);
    this.head = 0;
  }
}

/** One life of a channel's log: epoch, top, the newest publications without a gap, and the idempotency keys. */
export class MemoryLog implements Scheduled {
  dueAt: number | undefined;
  private last: Point = { offset: 0, tag: '0' };
  private readonly stored = new Window<StoredItem>();
  private historyUntil = Infinity;
  private metaUntil = Infinity;
  private keys: Map<string, KnownKey> | undefined;
  private keysUntil = Infinity;

  constructor(
    readonly channel: string,
    readonly epoch: string,
    private metaTtlMs: number,
  ) {}

  get top(): Position {
    return formatPosition(this.epoch, this.last.offset, this.last.tag);
  }

  /** When something of this log goes, unless the log is used before. */
  get nextDeadline(): number {
    return Math.min(this.metaUntil, this.historyUntil, this.keysUntil);
  }

  /** Whether epoch and offset are gone. */
  isOver(now: number): boolean {
    return now >= this.metaUntil;
  }

  /** Notes a use, from which the time to live of epoch and offset counts. */
  touch(now: number): void {
    this.metaUntil = now + this.metaTtlMs;
  }

  /** Lets go of history and keys whose time is over. */
  expire(now: number): void {
    if (now >= this.historyUntil) this.trim();
    if (now >= this.keysUntil) this.forgetKeys();
  }

  append(
    retention: Retention,
    tag: string,
    items: readonly AppendItem[],
    now: number,
    note?: string,
  ): { result: AppendResult; envelope: Envelope | undefined } {
    const prev = this.last;
    const added: { event: string; data: string; exclude?: string }[] = [];
    const results = items.map(({ event, data, exclude, key }) => {
      const known = key === undefined ? undefined : this.keys?.get(key);
      if (known && known.until > now) return { position: known.position, repeated: true };
      const item = exclude === undefined ? { event, data } : { event, data, exclude };
      this.last = { offset: this.last.offset + 1, tag };
      added.push(item);
      if (retention.size > 0) this.stored.push({ ...this.last, ...item });
      const position = this.top;
      if (key !== undefined) this.remember(key, { position, until: now + KEY_TTL_MS });
      return { position, repeated: false };
    });
    this.pruneKeys(now);
    this.metaTtlMs = Math.max(retention.metaTtlMs, 2 * retention.ttlMs);
    this.touch(now);
    const result = { epoch: this.epoch, prev, tag, results };
    if (added.length === 0) return { result, envelope: undefined };
    this.stored.keepNewest(retention.size > 0 ? retention.size + 1 : 0);
    this.historyUntil = this.stored.length > 0 ? now + retention.ttlMs : Infinity;
    const envelope = { epoch: this.epoch, prev, first: prev.offset + 1, tag, items: added };
    return { result, envelope: note === undefined ? envelope : { ...envelope, note } };
  }

  read(position: Position, limit: number): ReadResult {
    const parts = parsePosition(position);
    const status = parts?.epoch === this.epoch ? this.statusOf(parts) : 'epoch';
    if (!parts || status !== 'ok') return { status, top: this.top, items: [], more: false };
    const from = parts.offset + 1 - this.firstOffset;
    const items = this.stored.slice(from, from + limit);
    return { status, top: this.top, items, more: from + items.length < this.stored.length };
  }

  newest(limit: number): StoredItem[] {
    return this.stored.slice(Math.max(0, this.stored.length - limit), this.stored.length);
  }

  /** Drops the stored publications; epoch, offset and keys stay. */
  trim(): void {
    this.stored.keepNewest(0);
    this.historyUntil = Infinity;
  }

  /**
   * Goes back to an earlier top, as a failover to a copy that lagged behind does: what came after it is lost, the keys
   * too. The offset has to be stored, or 0 while the first publication is.
   *
   * @internal
   */
  truncate(offset: number): void {
    const index = offset - this.firstOffset;
    const last = offset === 0 && this.firstOffset === 1 ? { offset: 0, tag: '0' } : this.stored.at(index);
    if (!last) throw new RangeError(`Offset ${offset} of ${this.channel} is not stored`);
    this.last = { offset: last.offset, tag: last.tag };
    this.stored.keepOldest(index + 1);
    for (const [key, { position }] of this.keys ?? []) {
      if ((parsePosition(position)?.offset ?? 0) > offset) this.keys?.delete(key);
    }
  }

  /** What is stored ends at the top, always. */
  private get firstOffset(): number {
    return this.last.offset - this.stored.length + 1;
  }

  private statusOf({ offset, tag }: PositionParts): ReadResult['status'] {
    if (offset === 0) return this.firstOffset === 1 ? 'ok' : 'trimmed';
    if (offset > this.last.offset) return 'diverged';
    const point = offset === this.last.offset ? this.last : this.stored.at(offset - this.firstOffset);
    if (!point) return 'trimmed';
    return point.tag === tag ? 'ok' : 'diverged';
  }

  private remember(key: string, known: KnownKey): void {
    this.keys ??= new Map();
    // Removed first, so that a key that had lapsed moves to the young end.
    this.keys.delete(key);
    this.keys.set(key, known);
    this.keysUntil = known.until;
  }

  private pruneKeys(now: number): void {
    if (!this.keys) return;
    for (const [key, { until }] of this.keys) {
      if (until > now && this.keys.size <= MAX_KEYS) return;
      this.keys.delete(key);
    }
    this.forgetKeys();
  }

  private forgetKeys(): void {
    this.keys = undefined;
    this.keysUntil = Infinity;
  }
}
