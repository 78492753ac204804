import { encodeEvent } from '../protocol/encode.js';
import type { Connection } from './connection.js';
import type { Clock } from './ports/clock.js';
import { SharedFrame } from './shared-frame.js';

/** How many ticks an interval has. */
const TICKS = 25;

/**
 * Finds dead peers with one timer for all: a wheel of slots. When its slot comes a connection is asked for a sign of
 * life; `timeoutMs` later it is ended with `heartbeat_timeout` if there was none.
 */
export class Heartbeat {
  readonly #slots: Set<Connection>[] = Array.from({ length: TICKS }, () => new Set());
  readonly #ping = new SharedFrame(encodeEvent('$ping'));
  readonly #stop: () => void;
  #tick = 0;

  /** `timeoutMs` is at most `intervalMs`. */
  constructor(clock: Clock, intervalMs: number, timeoutMs: number) {
    const tickMs = intervalMs / TICKS;
    const patience = Math.min(TICKS, Math.ceil(timeoutMs / tickMs));
    this.#stop = clock.every(tickMs, () => {
      this.#expire((this.#tick + TICKS - patience) % TICKS);
      this.#ask(this.#tick);
      this.#tick = (this.#tick + 1) % TICKS;
    });
  }

  /** Watches a connection; it is asked one interval from now. */
  add(connection: Connection): void {
    connection.slot = (this.#tick + TICKS - 1) % TICKS;
    this.#slots[connection.slot]!.add(connection);
  }

  remove(connection: Connection): void {
    this.#slots[connection.slot]!.delete(connection);
  }

  stop(): void {
    this.#stop();
  }

  #ask(slot: number): void {
    for (const connection of this.#slots[slot]!) {
      if (!connection.resumed) connection.link?.ping();
      else if (connection.deliver(this.#ping)) connection.link?.expect();
    }
  }

  #expire(slot: number): void {
    for (const connection of this.#slots[slot]!) {
      if (connection.link?.heard === false) connection.fail('heartbeat_timeout');
    }
  }
}
