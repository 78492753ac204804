import { RealtimeException } from '../protocol/errors.js';
import type { Application } from './application.js';
import type { Connection } from './connection.js';
import type { Endpoint } from './endpoint.js';
import type { Expiry } from './expiry.js';
import type { Frames } from './frames.js';
import type { Hooks } from './hooks.js';
import type { Meter } from './ports/meter.js';
import type { UserIdentity } from './identity.js';
import type { Users } from './users.js';

/** What the opening of connections needs of its hub. */
export interface OpeningHost {
  readonly application: Application;
  readonly frames: Frames;
  readonly hooks: Hooks;
  readonly users: Users;
  readonly expiry: Expiry;
  readonly meter: Meter;
  /** Throws where credentials have ended, or were revoked. */
  requireCurrent(user: UserIdentity | undefined): void;
  /** Tells the others whose last hook they have to run if this node dies. */
  expect(connection: Connection): Promise<void>;
  endpointOf(connection: Connection): Endpoint | undefined;
}

/** The first hooks of connections, after which they are open. */
export class Openings {
  constructor(private readonly host: OpeningHost) {}

  /** Runs the connection hooks, then serves the frames that came meanwhile; where one refuses, the connection ends. */
  start(connection: Connection, before: Promise<void>): void {
    connection.enter('opening');
    this.open(connection, before).catch((error: unknown) => {
      const { code, retryAfterMs } = this.host.frames.describe(error);
      connection.fail(code, retryAfterMs);
    });
  }

  /** Runs the connection hooks. Rejects where one refuses. */
  open(connection: Connection, before: Promise<void>): Promise<void> {
    const opening = this.#runHooks(connection, before);
    this.host.hooks.opening(connection, opening);
    return opening;
  }

  async #runHooks(connection: Connection, before: Promise<void>): Promise<void> {
    const { application, users, expiry } = this.host;
    await before;
    if (connection.phase !== 'opening') throw new RealtimeException('gone');
    this.host.requireCurrent(connection.user); // what is revoked from now on finds the connection
    users.add(connection);
    expiry.watch(connection);
    if (!connection.recorded) await this.host.expect(connection); // a record is expected from its beginning
    if (connection.phase !== 'opening') throw new RealtimeException('gone');
    connection.hooked = true;
    await application.connected(connection);
    if (connection.phase !== 'opening') throw new RealtimeException('gone');
    this.#enter(connection);
  }

  #enter(connection: Connection): void {
    connection.enter('open');
    connection.entered = connection.phase === 'open';
    if (connection.entered) this.host.meter.opened.add(connection.transport);
    connection.greet();
    this.host.endpointOf(connection)?.enter(connection);
    this.host.frames.release(connection);
  }
}
