import { RealtimeException } from '../protocol/errors.js';
import type { Place, Places } from './ports/arrival.js';
import type { BrokerSession } from './ports/broker.js';
import type { Clock } from './ports/clock.js';
import type { RecordStore } from './ports/records.js';
import { addressSubject, userSubject } from './ports/subjects.js';

/** How long a handshake waits for what other nodes count, ms: past it this node's own count decides. */
const ELSEWHERE_MS = 500;
/** How long a peer that was one too many is asked to wait, ms: a random time up to twice this. */
const RETRY_MS = 5_000;

/** How many connections there may be; `Infinity`: any number. */
export interface CensusLimits {
  readonly maxConnections: number;
  readonly connectionsPerAddress: number;
  readonly connectionsPerUser: number;
}

/** How many connections of this node a subject has. */
interface Tally {
  readonly subject: string;
  count: number;
}

/** A place as the census keeps it. */
interface Taken extends Place {
  /** Of its address, where that is known. */
  readonly address: Tally | undefined;
  /** How many of its address there were with it. */
  readonly rank: number;
  /** Of its user, once that is known. */
  user: Tally | undefined;
  left: boolean;
}

/**
 * Counts connections by address and by user, from the moment at which they arrive, so that a slow handshake counts as
 * well. What other nodes have is asked of a shared broker once per handshake, for both subjects of the connection.
 */
export class Census implements Places {
  readonly #tallies = new Map<string, Tally>();
  #size = 0;

  constructor(
    private readonly limits: CensusLimits,
    private readonly clock: Clock,
    /** A shared broker; `undefined`: there are no other nodes. */
    private readonly others: Pick<BrokerSession, 'available' | 'countElsewhere'> | undefined,
    /** Connections that outlive their links count wherever they are. */
    private readonly records?: Pick<RecordStore, 'count'>,
  ) {}

  enter(ip: string): Place {
    const { maxConnections, connectionsPerAddress } = this.limits;
    if (this.#size >= maxConnections) throw tooMany('This node has too many connections');
    const subject = addressSubject(ip);
    if (subject !== undefined && (this.#tallies.get(subject)?.count ?? 0) >= connectionsPerAddress) {
      throw tooManyOf('address');
    }
    const address = this.#add(subject);
    this.#size++;
    const place: Taken = { address, rank: address?.count ?? 0, user: undefined, left: false };
    return place;
  }

  /**
   * The peer of a place is known, or known to be anonymous. Rejects with `too_many_connections`; the place is then still
   * to be left.
   */
  async identify(place: Place, userId: string | undefined): Promise<void> {
    const { connectionsPerAddress, connectionsPerUser } = this.limits;
    const taken = place as Taken;
    const { address, rank } = taken;
    if (taken.left) throw new RealtimeException('gone');
    const user = (taken.user ??= this.#add(userId === undefined ? undefined : userSubject(userId)));
    const ofUser = user?.count ?? 0;
    if (ofUser > connectionsPerUser) throw tooManyOf('user');
    const [atAddress, byUser] = await this.#elsewhere([
      connectionsPerAddress === Infinity ? undefined : address?.subject,
      connectionsPerUser === Infinity ? undefined : user?.subject,
    ]);
    if (rank + atAddress > connectionsPerAddress) throw tooManyOf('address');
    if (ofUser + byUser > connectionsPerUser) throw tooManyOf('user');
  }

  leave(place: Place): void {
    const taken = place as Taken;
    if (taken.left) return;
    taken.left = true;
    this.#size--;
    for (const tally of [taken.address, taken.user]) {
      if (tally !== undefined && --tally.count === 0) this.#tallies.delete(tally.subject);
    }
  }

  /** Counts one more. */
  #add(subject: string | undefined): Tally | undefined {
    if (subject === undefined) return undefined;
    let tally = this.#tallies.get(subject);
    if (tally === undefined) this.#tallies.set(subject, (tally = { subject, count: 0 }));
    tally.count++;
    return tally;
  }

  /** What other nodes have, as far as they say so in time. */
  #elsewhere([address, user]: [string | undefined, string | undefined]): Promise<[number, number]> {
    const { others, records } = this;
    const subjects = [address, user].filter((subject) => subject !== undefined);
    const asking: Promise<readonly number[]>[] = [];
    if (subjects.length === 0) return Promise.resolve([0, 0]);
    if (others?.available === true) asking.push(others.countElsewhere(subjects));
    if (records !== undefined) asking.push(records.count(subjects));
    if (asking.length === 0) return Promise.resolve([0, 0]);
    return new Promise((resolve) => {
      const decide = (counts: readonly number[]): void => {
        cancel();
        const of = (subject: string | undefined): number => counts[subjects.indexOf(subject!)] ?? 0;
        resolve([of(address), of(user)]);
      };
      const cancel = this.clock.after(ELSEWHERE_MS, () => decide([]));
      const sum = (counts: readonly (readonly number[])[]): void => {
        decide(subjects.map((_, i) => counts.reduce((all, some) => all + (some[i] ?? 0), 0)));
      };
      const none = (): readonly number[] => [];
      void Promise.all(asking.map((counts) => counts.catch(none))).then(sum);
    });
  }
}

function tooManyOf(whose: 'address' | 'user'): RealtimeException {
  return tooMany(whose === 'user' ? 'The user has too many connections' : 'The address has too many connections');
}

function tooMany(message: string): RealtimeException {
  const refusal = new RealtimeException('too_many_connections', message);
  refusal.retryAfterMs = Math.round(RETRY_MS * (1 + Math.random()));
  return refusal;
}
