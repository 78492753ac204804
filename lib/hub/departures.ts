import type { Application } from './application.js';
import type { Connection } from './connection.js';
import type { Hooks } from './hooks.js';
import type { Log } from './log.js';
import type { BrokerSession } from './ports/broker.js';
import type { Clock } from './ports/clock.js';
import type { Subscriptions } from './subscriptions.js';

/** How long a connection's hooks wait for the registry, ms: a broker that is away holds nobody up. */
const REGISTER_MS = 500;

/**
 * The last hooks of connections, by whoever has to run them: this node for its own, as long as it holds its lease, and
 * for those of dead nodes that it claimed.
 */
export class Departures {
  constructor(
    private readonly session: BrokerSession,
    private readonly subscriptions: Subscriptions,
    private readonly application: Application,
    private readonly hooks: Hooks,
    private readonly clock: Clock,
    private readonly log: Log,
  ) {}

  /** Before a connection's first hook: if this node dies after it, others know whose last one they have to run. */
  expect(connection: Connection): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.clock.after(REGISTER_MS, resolve);
      const done = (): void => {
        cancel();
        resolve();
      };
      this.session.register(connection).then(done, done);
    });
  }

  /** A connection of this node is over. */
  left(connection: Connection): void {
    // What the broker refuses is tried again by itself.
    const written = connection.hooked ? this.session.update(connection) : this.session.unregister(connection.id);
    written.catch(() => undefined);
    if (!connection.hooked) {
      this.hooks.changed();
      return;
    }
    const hooks = this.#leave(connection).catch((error: unknown) => {
      this.log.error('A disconnection hook failed', error);
    });
    this.hooks.track(hooks);
  }

  /** A connection of a dead node is this node's. */
  claimed(connection: Connection): Promise<void> {
    const hooks = this.subscriptions.left(connection).then(() => this.application.disconnected(connection));
    this.hooks.track(hooks.catch(() => undefined));
    return hooks;
  }

  async #leave(connection: Connection): Promise<void> {
    await this.hooks.openedInTime(connection);
    if (await this.#owns(connection)) await this.subscriptions.left(connection);
    if (await this.#owns(connection)) await this.application.disconnected(connection);
    if (!connection.fenced) await this.session.unregister(connection.id).catch(() => undefined); // tried again by itself
  }

  /** Whether the hooks are this node's to run, now. A session that is closed has left nothing to be claimed. */
  async #owns(connection: Connection): Promise<boolean> {
    return !connection.fenced && (await this.session.holdsLease().catch(() => true));
  }
}
