import type { HandshakeLimits } from '../hub/ports/arrival.js';
import type { Clock } from '../hub/ports/clock.js';
import { Rate } from '../hub/ports/rate.js';
import { addressSubject } from '../hub/ports/subjects.js';
import { RealtimeException } from '../protocol/errors.js';

/** Addresses that are remembered: past it those that were not seen for longest start anew. */
const MAX_ADDRESSES = 100_000;
const SWEEP_MS = 1_000;
/** How long a refused peer is asked to wait at least, ms: a random time up to twice this, or twice what is needed. */
const RETRY_MS = 1_000;

/**
 * How often peers may begin a handshake: per address, and all together. Every attempt counts, whatever becomes of it,
 * but for those that this refuses: so it never refuses for longer than its buckets take to fill.
 */
export class HandshakeRates {
  readonly #perAddress: Rate;
  readonly #perNode: Rate;
  /** The buckets of addresses that are not full, the one that was debited last at the end. */
  readonly #buckets = new Map<string, number>();
  #nodeBucket = 0;
  #sweptAt = 0;

  constructor({ handshakesPerAddress, handshakesPerSecond }: HandshakeLimits, clock: Clock) {
    this.#perAddress = new Rate(handshakesPerAddress, clock);
    this.#perNode = new Rate(handshakesPerSecond, clock);
  }

  /** How many addresses are remembered. */
  get size(): number {
    return this.#buckets.size;
  }

  /** Throws `rate_limited` where a handshake would be refused; debits none. */
  check(ip: string): void {
    this.#look(ip);
  }

  /** Debits a handshake. Throws `rate_limited`. */
  take(ip: string): void {
    const { now, address, bucket } = this.#look(ip);
    this.#nodeBucket = this.#perNode.spend(this.#nodeBucket, now);
    if (address === undefined) return;
    this.#buckets.delete(address); // goes to the end
    this.#buckets.set(address, this.#perAddress.spend(bucket, now));
    if (this.#buckets.size > MAX_ADDRESSES) this.#buckets.delete(this.#buckets.keys().next().value!);
  }

  #look(ip: string): { now: number; address: string | undefined; bucket: number } {
    const now = this.#perNode.now();
    if (Math.abs(now - this.#sweptAt) >= SWEEP_MS) this.#sweep(now);
    const address = this.#perAddress.limited ? addressSubject(ip) : undefined;
    const bucket = address === undefined ? 0 : (this.#buckets.get(address) ?? 0);
    const waitMs = address === undefined ? 0 : this.#perAddress.waitMs(bucket, now);
    if (waitMs > 0) throw tooFast('Too many handshakes of this address', waitMs);
    const waitForNode = this.#perNode.waitMs(this.#nodeBucket, now);
    if (waitForNode > 0) throw tooFast('Too many handshakes', waitForNode);
    return { now, address, bucket };
  }

  /** Forgets the buckets that are full. A clock that was set back empties none for longer than it takes to fill. */
  #sweep(now: number): void {
    this.#sweptAt = now;
    this.#nodeBucket = this.#perNode.spend(this.#nodeBucket, now, 0);
    for (const [address, bucket] of this.#buckets) {
      const fullAt = this.#perAddress.spend(bucket, now, 0);
      if (fullAt <= now) this.#buckets.delete(address);
      else if (fullAt !== bucket) this.#buckets.set(address, fullAt);
    }
  }
}

function tooFast(message: string, waitMs: number): RealtimeException {
  const refusal = new RealtimeException('rate_limited', message);
  refusal.retryAfterMs = Math.round(Math.max(RETRY_MS, waitMs) * (1 + Math.random()));
  return refusal;
}
