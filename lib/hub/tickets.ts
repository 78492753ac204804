import { createHash, randomBytes } from 'node:crypto';
import { toJson } from '../protocol/encode.js';
import { RealtimeException } from '../protocol/errors.js';
import { UserIdentity } from './identity.js';
import type { BrokerSession } from './ports/broker.js';
import type { Clock } from './ports/clock.js';
import type { IssuedTicket } from './ports/ticket.js';

/** For how long a ticket lets its holder in, ms. */
const LIFETIME_MS = 30_000;
/** What an identity in a ticket may be, in bytes of JSON. */
const MAX_BYTES = 8_192;
const SECRET_BYTES = 32;
/** That many bytes in base64url. */
const TICKET = /^[\w-]{43}$/;

/** Tickets: each lets one peer in once, as the identity that it was issued for, on whatever node. */
export class Tickets {
  constructor(
    private readonly broker: BrokerSession,
    private readonly clock: Clock,
  ) {}

  /**
   * Issues a ticket for an identity. Rejects with `invalid` for one that has no id or does not fit, with
   * `broker_unavailable` or `outcome_unknown`.
   */
  async issue({ id, claims, expiresAt, channels }: UserIdentity<unknown>): Promise<IssuedTicket> {
    if (typeof id !== 'string' || id === '') throw new RealtimeException('invalid', 'An identity has an id, as text');
    const json = write({ id, claims, expiresAt, channels });
    const ticket = randomBytes(SECRET_BYTES).toString('base64url');
    const until = this.clock.now() + LIFETIME_MS;
    await this.broker.putOnce(digest(ticket), json, LIFETIME_MS);
    return { ticket, expiresAt: until };
  }

  /** Takes a ticket, which is worth nothing from then on. Rejects with `unauthenticated` for one that is none any more. */
  async redeem(ticket: string): Promise<UserIdentity> {
    const json = TICKET.test(ticket) ? await this.broker.takeOnce(digest(ticket)) : undefined;
    if (json === undefined) throw new RealtimeException('unauthenticated');
    const { id, claims, expiresAt, channels } = JSON.parse(json) as UserIdentity;
    return new UserIdentity(id, claims, expiresAt, channels);
  }
}

function write(identity: object): string {
  let json: string;
  try {
    json = toJson(identity);
  } catch {
    throw new RealtimeException('invalid', 'The identity cannot be written as JSON');
  }
  if (Buffer.byteLength(json) <= MAX_BYTES) return json;
  throw new RealtimeException('invalid', `An identity in a ticket is at most ${MAX_BYTES} bytes of JSON`);
}

/** What the broker knows a ticket by: nobody who reads the broker's memory gets in by that. */
function digest(ticket: string): string {
  return createHash('sha256').update(ticket).digest('base64url');
}
