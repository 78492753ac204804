import { RealtimeException } from '../protocol/errors.js';
import type { Connection } from './connection.js';
import type { Users } from './users.js';
import type { UserIdentity } from './identity.js';
import type { BrokerSession } from './ports/broker.js';
import type { Clock } from './ports/clock.js';
import { mergeRevocations, revocationKey, type Revocation } from './ports/revocation.js';

/** How soon what was revoked is read again where that failed. */
const RETRY_MS = 500;
/** Revocations that are announced in one message. */
const PER_MESSAGE = 500;
/** How long a revocation lasts where nobody says so: longer than tokens live, as a rule. */
const LIFETIME_MS = 30 * 86_400_000;
/** The last time of a Date, ms. */
const MAX_TIME = 8.64e15;

/**
 * What is revoked, as this node knows it: read from the broker when the node lets peers in, whenever its
 * connection to the broker was renewed, and where messages of revocations were lost. What the broker has forgotten that this
 * node knows, all are told again.
 */
export class Revocations {
  readonly #entries = new Map<string, Revocation>();
  #loading = false;
  #again = false;
  #loaded = false;
  #cancelRetry: (() => void) | undefined;
  #closed = false;

  constructor(
    private readonly broker: BrokerSession,
    private readonly clock: Clock,
    private readonly connections: ReadonlyMap<string, Connection>,
    private readonly users: Users,
    private readonly announce: (revocations: readonly Revocation[]) => Promise<void>,
  ) {}

  /**
   * Revokes a token, or the tokens of a user that were issued until now: written first, so that nodes find it that do not
   * get the message. Rejects with `invalid` for an end that is none, `broker_unavailable` or `outcome_unknown`.
   */
  async revoke(what: { token: string } | { user: string }, end?: number): Promise<void> {
    const now = this.clock.now();
    const until = Math.ceil(end ?? now + LIFETIME_MS);
    if (!(until > now && until <= MAX_TIME)) {
      throw new RealtimeException('invalid', 'A revocation ends at a time to come, in ms since 1970');
    }
    await this.#tell([{ ...('token' in what ? what : { ...what, before: now }), until }]);
  }

  /** Some were announced: from now on they hold here, and the connections that they concern end. */
  apply(revocations: readonly Revocation[]): void {
    let tokens = false;
    for (const revocation of revocations) {
      this.#add(revocation);
      if ('token' in revocation) tokens = true;
      else for (const connection of this.users.of(revocation.user)) this.#endIfRevoked(connection);
    }
    if (tokens) this.#endRevoked();
  }

  /** Whether an identity counts no longer. */
  holds({ id, claims }: UserIdentity): boolean {
    if (this.#entries.size === 0) return false;
    const now = this.clock.now();
    const { jti, iat } = (claims ?? {}) as { jti?: unknown; iat?: unknown };
    const token = typeof jti === 'string' ? this.#entries.get(revocationKey({ token: jti })) : undefined;
    if (token !== undefined && token.until > now) return true;
    const user = this.#entries.get(revocationKey({ user: id }));
    if (user === undefined || 'token' in user || user.until <= now) return false;
    // Times of issue are whole seconds: the one of the revocation counts as before it.
    return typeof iat !== 'number' || Math.floor(iat) <= Math.floor(user.before / 1_000);
  }

  /** Reads all, and from now on keeps up. Rejects with `broker_unavailable`. */
  async load(): Promise<void> {
    const stored = await this.broker.revocations();
    this.#loaded = true;
    const known = new Map(stored.map((revocation) => [revocationKey(revocation), revocation]));
    const now = this.clock.now();
    const forgotten = [...this.#entries].filter(([key, own]) => own.until > now && !covers(known.get(key), own));
    for (const revocation of stored) this.#add(revocation);
    if (stored.length > 0) this.#endRevoked();
    await this.#tell(forgotten.map(([, revocation]) => revocation));
  }

  /** Reads all again, until that succeeds. */
  reload(): void {
    if (!this.#loaded || this.#closed) return;
    this.#again = this.#loading;
    if (this.#loading) return;
    this.#loading = true;
    this.#cancelRetry?.();
    const done = (wait: boolean): void => {
      this.#loading = false;
      if (wait && !this.#closed) this.#cancelRetry = this.clock.after(RETRY_MS, () => this.reload());
      else if (this.#again) this.reload();
    };
    this.load().then(
      () => done(false),
      () => done(true),
    );
  }

  /** Forgets those whose time is over. */
  sweep(): void {
    const now = this.clock.now();
    for (const [key, { until }] of this.#entries) if (until <= now) this.#entries.delete(key);
  }

  close(): void {
    this.#closed = true;
    this.#cancelRetry?.();
  }

  async #tell(revocations: readonly Revocation[]): Promise<void> {
    for (let i = 0; i < revocations.length; i += PER_MESSAGE) {
      const some = revocations.slice(i, i + PER_MESSAGE);
      await this.broker.revoke(some);
      this.apply(some); // this node tells it again, should the broker forget it before anybody heard of it
      await this.announce(some);
    }
  }

  #add(revocation: Revocation): void {
    const key = revocationKey(revocation);
    this.#entries.set(key, mergeRevocations(this.#entries.get(key), revocation));
  }

  #endRevoked(): void {
    for (const connection of this.connections.values()) this.#endIfRevoked(connection);
  }

  #endIfRevoked(connection: Connection): void {
    if (connection.user !== undefined && this.holds(connection.user)) connection.fail('revoked');
  }
}

/** Whether what is known revokes all that another one does. */
function covers(known: Revocation | undefined, own: Revocation): boolean {
  if (known === undefined || known.until < own.until) return false;
  return 'token' in known || 'token' in own || known.before >= own.before;
}
