import { CodedException, type ErrorBody } from '../protocol/errors.js';
import type { ClientClock } from './clock.js';
import { errorOf, exceptionOf } from './failures.js';
import { byteLength, type ClientLink, type IncomingFrame } from './transport.js';

/** How one request is made. */
export interface CallOptions {
  timeoutMs?: number | undefined;
  signal?: AbortSignal | undefined;
  /**
   * The request may be sent twice: it has a key or only reads. It survives the loss of a link, and its timeout counts
   * from the moment it is sent, not while it waits for a link.
   */
  repeatable?: boolean;
  /** Takes the values of a stream; without it the first value is the answer and the rest is cancelled. */
  onValue?: (data: unknown) => void;
}

interface Entry extends CallOptions {
  readonly id: number;
  readonly text: string;
  /** When it was sent over the link that is open; `undefined`: it waits for one. */
  sentAt?: number | undefined;
  /** It was sent over some link: the hub may have applied it. */
  tried?: boolean;
  resolve(data: unknown): void;
  reject(error: unknown): void;
  cancelTimer?: (() => void) | undefined;
  stopListening?: () => void;
}

/** Bounds and time of {@link Requests}. */
export interface RequestLimits {
  readonly clock: ClientClock;
  readonly requestTimeoutMs: number;
  readonly maxQueued: number;
  readonly maxQueuedBytes: number;
  readonly traceContext?: (() => string | undefined) | undefined;
}

/** The rejection of a request that is given up: the hub may have applied what was sent. */
function givenUp({ tried }: Entry, message?: string): CodedException {
  return new CodedException(tried ? 'outcome_unknown' : 'not_available', message);
}

/**
 * Requests in flight and requests that wait for a link, in one order. Each gets exactly one final answer: the hub's,
 * or a rejection.
 */
export class Requests {
  readonly #limits: RequestLimits;
  readonly #entries = new Map<number, Entry>();
  #lastId = 0;
  #link: ClientLink | undefined;
  #maxFrameBytes = 0;
  /** The last round trip that was measured, in milliseconds. */
  latencyMs: number | undefined;

  constructor(limits: RequestLimits) {
    this.#limits = limits;
  }

  get isOpen(): boolean {
    return this.#link !== undefined;
  }

  /** How many wait for a link or an answer. */
  get size(): number {
    return this.#entries.size;
  }

  /** Sends a request, or queues it while there is no link. */
  call(event: string, data: unknown, options: CallOptions = {}): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const { signal } = options;
      signal?.throwIfAborted();
      const id = ++this.#lastId;
      const entry: Entry = {
        ...options,
        id,
        text: JSON.stringify({ id, event, data, traceparent: this.#limits.traceContext?.() }),
        resolve,
        reject,
      };
      if (!this.#link && !this.#hasRoom(entry.text.length)) {
        throw new CodedException('rate_limited', 'The queue is full');
      }
      this.#entries.set(id, entry);
      const abort = () => this.#giveUp(entry, errorOf(signal?.reason));
      signal?.addEventListener('abort', abort);
      entry.stopListening = () => signal?.removeEventListener('abort', abort);
      if (!entry.repeatable) this.#startTimer(entry);
      if (this.#link) this.#send(entry, this.#link);
    });
  }

  /** Sends an event without an answer; false where there is no link. */
  send(event: string, data: unknown): boolean {
    this.#link?.send(JSON.stringify({ event, data, traceparent: this.#limits.traceContext?.() }));
    return this.isOpen;
  }

  /** Takes an answer from the hub. Answers to what was given up are ignored. */
  answer(frame: IncomingFrame): void {
    const entry = this.#entries.get(frame.id as number);
    if (!entry) return;
    if (entry.sentAt !== undefined) this.latencyMs = this.#limits.clock.now() - entry.sentAt;
    if (frame.error !== undefined) this.#fail(entry, exceptionOf(frame.error as ErrorBody));
    else if (frame.more === true && entry.onValue) {
      entry.cancelTimer?.();
      entry.onValue(frame.data);
    } else {
      if (entry.onValue && frame.done !== true) entry.onValue(frame.data);
      if (frame.more === true) this.#cancel(entry);
      this.#settle(entry);
      entry.resolve(frame.data);
    }
  }

  /** A link is open: sends what waits, in order. */
  opened(link: ClientLink, maxFrameBytes: number, latencyMs: number): void {
    this.#link = link;
    this.#maxFrameBytes = maxFrameBytes;
    this.latencyMs = latencyMs;
    for (const entry of [...this.#entries.values()]) this.#send(entry, link);
  }

  /** The link is gone: what is repeatable waits for the next one, the outcome of the rest is unknown. */
  lost(): void {
    this.#link = undefined;
    for (const entry of [...this.#entries.values()]) {
      const sent = entry.sentAt !== undefined;
      if (sent && !(entry.repeatable && this.#hasRoom(entry.text.length))) this.#fail(entry, givenUp(entry));
      else if (entry.repeatable) {
        entry.sentAt = undefined;
        entry.cancelTimer?.();
      }
    }
  }

  /** The client is closed: rejects everything, with `error` what was never sent. */
  closed(error: CodedException): void {
    this.#link = undefined;
    for (const entry of [...this.#entries.values()]) this.#fail(entry, entry.tried ? givenUp(entry) : error);
  }

  #hasRoom(bytes: number): boolean {
    let count = 1;
    for (const { sentAt, text } of this.#entries.values()) {
      if (sentAt !== undefined) continue;
      count++;
      bytes += text.length;
    }
    return count <= this.#limits.maxQueued && bytes <= this.#limits.maxQueuedBytes;
  }

  #send(entry: Entry, link: ClientLink): void {
    // Past this limit the hub closes with 1009, for good.
    const { length } = entry.text;
    if (length * 3 > this.#maxFrameBytes && byteLength(entry.text) > this.#maxFrameBytes) {
      this.#fail(entry, new CodedException('frame_too_large'));
      return;
    }
    entry.sentAt = this.#limits.clock.now();
    entry.tried = true;
    if (entry.repeatable) this.#startTimer(entry);
    link.send(entry.text);
  }

  #startTimer(entry: Entry): void {
    entry.cancelTimer?.();
    entry.cancelTimer = this.#limits.clock.after(entry.timeoutMs ?? this.#limits.requestTimeoutMs, () => {
      this.#giveUp(entry, givenUp(entry, 'Timed out'));
    });
  }

  #giveUp(entry: Entry, error: Error): void {
    this.#cancel(entry);
    this.#fail(entry, error);
  }

  /** Tells the hub that nobody waits for the answers. */
  #cancel(entry: Entry): void {
    if (entry.sentAt !== undefined) this.#link?.send(JSON.stringify({ event: '$cancel', data: { id: entry.id } }));
  }

  #settle(entry: Entry): void {
    this.#entries.delete(entry.id);
    entry.cancelTimer?.();
    entry.stopListening?.();
  }

  #fail(entry: Entry, error: unknown): void {
    this.#settle(entry);
    entry.reject(error);
  }
}
