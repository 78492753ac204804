import { encodeError } from '../protocol/encode.js';
import { ERRORS, type ErrorCode } from '../protocol/errors.js';
import type { FrameId } from '../protocol/frames.js';
import { scanFrameId } from '../protocol/frame-id.js';
import type { Meter } from './ports/meter.js';
import { Rate } from './ports/rate.js';

/** How much of a frame over the limit is searched for its id, in characters. */
const MAX_SCANNED = 4 * 1024;
/** How long a peer that was closed for its frames is asked to stay away, ms: a random time up to twice this. */
const AWAY_MS = 2_000;

/** What a peer was told of frames over the limit, within a second. */
export interface Refusals {
  since: number;
  count: number;
}

/** Whose frames are counted: a connection. */
export interface Sender {
  /** When its bucket is full again, as of {@link Rate}; 0 at first. */
  bucketFullAt: number;
  /** What it was told of frames over the limit; `undefined` at first. */
  refusals: Refusals | undefined;
  answer(text: string): void;
  fail(code: ErrorCode, delayMs: number): void;
}

/**
 * Bounds how many frames a second a peer may send, by a token bucket per connection that holds those of two seconds. It
 * is debited before a frame is read. What is over it is answered `rate_limited` by its id, as often a second as frames
 * are allowed; past that the connection is closed.
 */
export class FrameLimit {
  private readonly rate: Rate;

  /** `Infinity`: there is no limit. */
  constructor(
    perSecond: number,
    clock: { now(): number },
    private readonly meter: Meter,
  ) {
    this.rate = new Rate(perSecond, clock);
  }

  /** Debits a frame that came and was not read yet. False: it is over the limit, and its sender was told. */
  takes(sender: Sender, text: string): boolean {
    const { rate } = this;
    if (!rate.limited) return true;
    const now = rate.now();
    const waitMs = rate.waitMs(sender.bucketFullAt, now);
    if (waitMs > 0) {
      this.meter.throttled.add('frames_per_second');
      sender.bucketFullAt = rate.spend(sender.bucketFullAt, now, 0);
      this.#refuse(sender, text, now, waitMs);
      return false;
    }
    sender.bucketFullAt = rate.spend(sender.bucketFullAt, now);
    return true;
  }

  /** Debits frames that came at once and may come again: 0, or how long they have to wait, and then none is debited. */
  admit(sender: Pick<Sender, 'bucketFullAt'>, frames: number): number {
    const { rate } = this;
    if (!rate.limited) return 0;
    const now = rate.now();
    const waitMs = rate.waitMs(sender.bucketFullAt, now);
    if (waitMs === 0) sender.bucketFullAt = rate.spend(sender.bucketFullAt, now, frames);
    else this.meter.throttled.add('frames_per_second');
    return waitMs;
  }

  /** Debits what a frame costs besides; at most what the bucket holds. */
  charge(sender: Sender, frames: number): void {
    if (frames > 0) sender.bucketFullAt = this.rate.spend(sender.bucketFullAt, this.rate.now(), frames);
  }

  #refuse(sender: Sender, text: string, now: number, waitMs: number): void {
    const refusals = (sender.refusals ??= { since: now, count: 0 });
    if (now - refusals.since >= 1_000 || now < refusals.since) {
      refusals.since = now;
      refusals.count = 0;
    }
    const id = refusals.count++ < this.rate.perSecond ? scanFrameId(text.slice(0, MAX_SCANNED)) : undefined;
    // A request that got no answer would wait for one: where its id is not to be found, the connection ends.
    if (refusals.count > this.rate.perSecond || (id === undefined && text.length > MAX_SCANNED)) {
      sender.fail('rate_limited', Math.round(AWAY_MS * (1 + Math.random())));
      return;
    }
    this.meter.error('rate_limited');
    sender.answer(encodeRefusal(id, Math.max(1, Math.ceil(waitMs))));
  }
}

const { message } = ERRORS.rate_limited;
/** What follows an id, up to the time to wait: written once, as floods are what this is for. */
const REFUSAL = `,"error":{"code":"rate_limited","message":${JSON.stringify(message)},"retryAfterMs":`;

function encodeRefusal(id: FrameId | undefined, retryAfterMs: number): string {
  if (id === undefined) return encodeError(undefined, { code: 'rate_limited', message, retryAfterMs });
  return `{"id":${typeof id === 'number' ? id : JSON.stringify(id)}${REFUSAL}${retryAfterMs}}}`;
}
