import { encodeEvent } from '../protocol/encode.js';
import { CLOSE_GOING_AWAY, closeCodeOf } from '../protocol/errors.js';
import type { DisconnectData } from '../protocol/frames.js';
import type { Batch } from './batch.js';
import { Following } from './following.js';
import type { Beating } from './heartbeat.js';
import { Outbox, type OutboxOwner, type Source } from './outbox.js';
import type { Codec, Link } from './ports/link.js';
import { FrameTally } from './ports/meter.js';
import { MAX_INBOX_BYTES, MAX_INBOX_ENTRIES, type InboxEntry } from './ports/records.js';
import type { ResumedStream, StreamRequest } from './ports/transport.js';
import { GAP_MS, type RecordLink } from './record-link.js';
import { SharedFrame } from './shared-frame.js';
import type { Subscriptions } from './subscriptions.js';
import type { Turn } from './turn.js';

/** How often the record of a stream is looked after, ms. */
export const RENEW_MS = 15_000;
/** How a stream is ended that a newer link has taken the place of. */
const SUPERSEDED: DisconnectData = { code: closeCodeOf('superseded'), reason: 'superseded', reconnect: false };

/** What a stream needs of its node. */
export interface StreamContext {
  readonly turn: Turn;
  readonly maxOutboxBytes: number;
  readonly subscriptions: Subscriptions;
  /** Attaches the stream to the record of its connection, and has it tell what there is. */
  begin(stream: Stream, link: Link, request: StreamRequest): Promise<void>;
  /** The stream, which had begun, is over. */
  ended(stream: Stream): void;
}

/** Whose stream it is. */
export interface StreamOwner {
  readonly client: string;
  fail(code: 'slow_consumer'): void;
}

/**
 * One link of a connection with a record that goes on until it is cut: follows channels from where the peer is, and
 * sends the frames of the inbox, each once.
 */
export class Stream extends Following implements RecordLink, ResumedStream, OutboxOwner, Beating {
  number = 0;
  readonly dueMs = GAP_MS + 2 * RENEW_MS;
  ack = 0;
  /** When its record was looked after last, by the hub's clock. */
  lookedAt = 0;
  slot = 0;
  readonly resumed = false; // it is asked for signs of life by the wire's own means
  #link: Link | undefined;
  readonly #outbox: Outbox;
  #entries: readonly InboxEntry[] = [];
  /** The number of the newest frame of the inbox that was sent. */
  #sent = 0;
  #over = false;

  constructor(
    private readonly owner: StreamOwner,
    private readonly context: StreamContext,
  ) {
    super(context.subscriptions);
    this.#outbox = new Outbox(context.turn, context.maxOutboxBytes, this);
  }

  get client(): string {
    return this.owner.client;
  }

  get over(): boolean {
    return this.#over;
  }

  get hasRoom(): boolean {
    return !this.#over && this.#outbox.hasRoom;
  }

  /** What it is asked for signs of life by. */
  get link(): Link | undefined {
    return this.#link;
  }

  start(link: Link, request: StreamRequest): Promise<void> {
    return this.context.begin(this, link, request);
  }

  /** It was attached, and its first bytes are written. */
  open(link: Link, ack: number): void {
    this.#link = link;
    this.#outbox.attach(link);
    this.ack = this.#sent = ack;
  }

  /** Sends what was not sent before. What is in the inbox stays there until it is acknowledged. */
  inbox(entries: readonly InboxEntry[]): void {
    this.#entries = entries;
    this.#tell();
    // Whoever acknowledges by coming back has to come back before the inbox is full.
    const bytes = entries.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0);
    if (entries.length * 2 > MAX_INBOX_ENTRIES || bytes * 2 > MAX_INBOX_BYTES) this.finish();
  }

  publications(source: Source, batch: Batch): void {
    this.#outbox.publications(source, batch);
  }

  event(source: Source, event: '$lost' | '$presence', data: unknown): void {
    this.#outbox.event(source, event, data);
  }

  marker(source: Source, epoch: string, offset: number, tag: string): void {
    this.#outbox.marker(source, epoch, offset, tag);
  }

  deliver(frame: SharedFrame, tally: FrameTally): boolean {
    return this.#outbox.frame(frame, tally);
  }

  drained(): void {
    this.#outbox.drained();
    this.#tell(); // a frame may need more room than there was
  }

  room(): void {
    this.#tell();
    for (const { subscription } of this.followed.values()) subscription.advance();
  }

  overflow(): void {
    this.owner.fail('slow_consumer');
  }

  finish(last?: DisconnectData, delayMs = last?.delayMs): void {
    if (this.#over) return;
    for (const { subscription } of this.followed.values()) subscription.settle();
    const text = last === undefined ? undefined : encodeEvent('$disconnect', last);
    this.#outbox.end(text, last?.reason === 'slow_consumer');
    const link = this.#link;
    this.ended();
    link?.close(last?.code ?? CLOSE_GOING_AWAY, last?.reason ?? '', delayMs);
  }

  supersede(): void {
    this.finish(SUPERSEDED);
  }

  abandon(): void {
    this.finish();
  }

  /** The peer gave no sign of life: the link is gone, the connection is not. */
  fail(): void {
    this.#link?.terminate();
  }

  ended(): void {
    if (this.#over) return;
    this.#over = true;
    this.#outbox.clear();
    this.leaveAll();
    if (this.number > 0) this.context.ended(this);
  }

  #tell(): void {
    for (const { n, text } of this.#entries) {
      if (this.#over) return;
      if (n <= this.#sent) continue;
      if (!this.#outbox.frame(new InboxFrame(n, text), COUNTED)) return; // as soon as there is room
      this.#sent = n;
    }
  }
}

/** Frames of an inbox were counted as they came there. */
const COUNTED = new FrameTally();

/** A frame of an inbox, with the number by which its peer acknowledges it. */
class InboxFrame extends SharedFrame {
  constructor(
    readonly n: number,
    text: string,
  ) {
    super(text);
  }

  override encode(codec: Codec): Buffer {
    return codec.numbered?.(this.n, this.text) ?? codec.frame(this.text);
  }
}
