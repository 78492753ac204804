import { encodeEvent } from '../protocol/encode.js';
import type { Connection } from './connection.js';
import { Deadlines, type Scheduled } from './deadlines.js';
import type { Clock } from './ports/clock.js';
import { SharedFrame } from './shared-frame.js';

/** How long before its credentials end a peer is asked for new ones, at most, ms. */
const LEAD_MS = 60_000;
/** The same as a share of the time from their acceptance to their end. */
const LEAD_SHARE = 0.2;
/** By how much of it peers are asked earlier or later, so that not all come at once. */
const JITTER = 0.1;
/** How long after the end a connection goes on, ms. */
export const GRACE_MS = 25_000;
/** When a peer is asked again whose connection hooks still run, ms. */
const LATER_MS = 1_000;

/** What is to be done for a connection: first to ask for new credentials, then to end it. */
interface Deadline extends Scheduled {
  readonly connection: Connection;
  readonly endsAt: number;
}

/**
 * The ends of credentials. Before one comes, its peer is asked for new ones by `$refresh`; who has brought none 25 s after
 * it is ended with `token_expired`. One sweep serves all connections, and costs nothing for those that are not due.
 */
export class Expiry {
  readonly #deadlines = new Deadlines<Deadline>();
  readonly #ofConnections = new Map<Connection, Deadline>();
  readonly #refresh = new SharedFrame(encodeEvent('$refresh'));

  constructor(private readonly clock: Clock) {}

  /** The peer's credentials were accepted now: they count in place of those before. */
  watch(connection: Connection): void {
    this.forget(connection);
    const expiresAt = connection.user?.expiresAt;
    if (expiresAt === undefined || !Number.isFinite(expiresAt)) return;
    const deadline: Deadline = { connection, endsAt: expiresAt + GRACE_MS, dueAt: undefined };
    this.#ofConnections.set(connection, deadline);
    const askAt = connection.askAt ?? askTime(expiresAt, this.clock.now());
    this.#deadlines.set(deadline, Math.min(askAt, deadline.endsAt));
  }

  forget(connection: Connection): void {
    const deadline = this.#ofConnections.get(connection);
    if (deadline === undefined) return;
    this.#ofConnections.delete(connection);
    this.#deadlines.delete(deadline);
  }

  /** Does what is due. */
  sweep(): void {
    const now = this.clock.now();
    for (const deadline of this.#deadlines.takeDue(now)) {
      const { connection, endsAt } = deadline;
      if (now >= endsAt) {
        connection.fail('token_expired');
      } else if (connection.phase === 'open') {
        connection.deliver(this.#refresh);
        connection.asked();
        this.#deadlines.set(deadline, endsAt);
      } else {
        this.#deadlines.set(deadline, Math.min(now + LATER_MS, endsAt));
      }
    }
  }
}

/** When a peer is asked for new credentials that brought some now which end at a time. */
export function askTime(expiresAt: number, now: number): number {
  const leadMs = Math.min(LEAD_MS, LEAD_SHARE * Math.max(0, expiresAt - now));
  return expiresAt - leadMs * (1 - JITTER + 2 * JITTER * Math.random());
}
