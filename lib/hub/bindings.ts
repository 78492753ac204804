import type { Application } from './application.js';
import type { Connection } from './connection.js';
import type { Clock } from './ports/clock.js';

/** After how long without an event the handlers bound for a connection are released, ms. */
const IDLE_MS = 30_000;

/** The connections for which the application has bound handlers; those that are idle are released. */
export class Bindings {
  readonly #usedAt = new Map<Connection, number>();

  constructor(
    private readonly application: Application,
    private readonly clock: Clock,
  ) {}

  /** The application bound handlers for a connection, or used them. */
  touch(connection: Connection): void {
    this.#usedAt.set(connection, this.clock.now());
  }

  forget(connection: Connection): void {
    this.#usedAt.delete(connection);
  }

  /** Releases the idle ones. */
  sweep(): void {
    const before = this.clock.now() - IDLE_MS;
    for (const [connection, at] of this.#usedAt) {
      if (at > before) continue;
      this.#usedAt.delete(connection);
      this.application.release(connection);
    }
  }
}
