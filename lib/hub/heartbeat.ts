import { encodeEvent } from '../protocol/encode.js';
import type { ErrorCode } from '../protocol/errors.js';
import type { Clock } from './ports/clock.js';
import type { Link } from './ports/link.js';
import type { FrameTally, Meter } from './ports/meter.js';
import { SharedFrame } from './shared-frame.js';

/** How many ticks an interval has. */
const TICKS = 25;

/** What is asked for signs of life: a connection, or one of its links. */
export interface Beating {
  /** Its place in the wheel. */
  slot: number;
  /** Whether the peer knows `$ping`. */
  readonly resumed: boolean;
  readonly link: Link | undefined;
  deliver(frame: SharedFrame, tally: FrameTally): boolean;
  fail(code: ErrorCode): void;
}

/**
 * Finds dead peers with one timer for all: a wheel of slots. When its slot comes a peer is asked for a sign of
 * life; `timeoutMs` later it is ended with `heartbeat_timeout` if there was none.
 */
export class Heartbeat {
  readonly #slots: Set<Beating>[] = Array.from({ length: TICKS }, () => new Set());
  readonly #ping = new SharedFrame(encodeEvent('$ping'));
  readonly #stop: () => void;
  #tick = 0;

  /** `timeoutMs` is at most `intervalMs`. */
  constructor(
    clock: Clock,
    intervalMs: number,
    timeoutMs: number,
    private readonly meter: Meter,
  ) {
    const tickMs = intervalMs / TICKS;
    const patience = Math.min(TICKS, Math.ceil(timeoutMs / tickMs));
    this.#stop = clock.every(tickMs, () => {
      this.#expire((this.#tick + TICKS - patience) % TICKS);
      this.#ask(this.#tick);
      this.#tick = (this.#tick + 1) % TICKS;
    });
  }

  /** Watches a peer; it is asked one interval from now. */
  add(peer: Beating): void {
    peer.slot = (this.#tick + TICKS - 1) % TICKS;
    this.#slots[peer.slot]!.add(peer);
  }

  remove(peer: Beating): void {
    this.#slots[peer.slot]!.delete(peer);
  }

  stop(): void {
    this.#stop();
  }

  #ask(slot: number): void {
    for (const peer of this.#slots[slot]!) {
      if (!peer.resumed) peer.link?.ping();
      else if (peer.deliver(this.#ping, this.meter.sent.$ping)) peer.link?.expect();
    }
  }

  #expire(slot: number): void {
    for (const peer of this.#slots[slot]!) {
      if (peer.link?.heard !== false) continue;
      this.meter.heartbeatTimeouts++;
      peer.fail('heartbeat_timeout');
    }
  }
}
