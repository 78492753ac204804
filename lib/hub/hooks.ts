import type { Connection } from './connection.js';
import type { Clock } from './ports/clock.js';
import type { Log } from './log.js';

/** How long the disconnection hooks of a connection wait for its connection hooks. */
const OPENING_LIMIT_MS = 10_000;

/** The application's hooks that run, and the connections there are: what the end of the hub waits for. */
export class Hooks {
  readonly #opening = new Map<Connection, Promise<void>>();
  #running = 0;
  /** Who waits for the last connection and its hooks: several modules may drain at once. */
  readonly #onQuiet = new Set<() => void>();

  constructor(
    private readonly connections: ReadonlyMap<string, Connection>,
    private readonly clock: Clock,
    private readonly log: Log,
  ) {}

  /** Notes the connection hooks of a connection. */
  opening(connection: Connection, hooks: Promise<void>): void {
    this.#opening.set(connection, hooks);
    const done = (): void => void this.#opening.delete(connection);
    hooks.then(done, done);
  }

  /** Settles when the connection hooks have. */
  opened(connection: Connection): Promise<void> {
    return this.#opening.get(connection) ?? Promise.resolve();
  }

  /** Resolves with the connection hooks, or after a while: hooks that wait for a peer that is gone never end. */
  openedInTime(connection: Connection): Promise<void> {
    const opening = this.#opening.get(connection);
    if (opening === undefined) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = this.clock.after(OPENING_LIMIT_MS, () => {
        this.log.warn('A connection hook still runs, long after its peer has gone');
        this.#opening.delete(connection);
        resolve();
      });
      const done = (): void => {
        cancel();
        resolve();
      };
      opening.then(done, done);
    });
  }

  /** Notes a hook that runs. It must not reject. */
  track(hook: Promise<void>): void {
    this.#running++;
    void hook.finally(() => {
      this.#running--;
      this.changed();
    });
  }

  /** A connection has gone. */
  changed(): void {
    if (!this.#quiet) return;
    for (const resolve of this.#onQuiet) resolve();
    this.#onQuiet.clear();
  }

  /** Waits until no connection is left and no hook runs. False: it took too long. */
  async quiet(timeoutMs: number): Promise<boolean> {
    if (this.#quiet) return true;
    return new Promise((resolve) => {
      const cancel = this.clock.after(timeoutMs, () => {
        const { size } = this.connections;
        this.log.warn(`After ${timeoutMs} ms of draining ${size} connections are left, and ${this.#running} hooks run`);
        resolve(false);
      });
      this.#onQuiet.add(() => {
        cancel();
        resolve(true);
      });
    });
  }

  get #quiet(): boolean {
    return this.connections.size === 0 && this.#running === 0;
  }
}
