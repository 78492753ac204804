import { RealtimeException } from '../../protocol/errors.js';

/** Tokens that count no longer: one, or all of a user that were issued up to a time. */
export type Revocation = {
  /** From when on it is needed no longer, as those tokens have expired; ms since 1970. */
  readonly until: number;
} & (
  | {
      /** The id of the token: its claim `jti`. */
      readonly token: string;
    }
  | {
      readonly user: string;
      /** ms since 1970. */
      readonly before: number;
    }
);

/** How many revocations a broker holds; one more is refused. */
export const MAX_REVOCATIONS = 100_000;

/** What two revocations of the same token or user have in common, and no others. */
export function revocationKey(revocation: { token: string } | { user: string }): string {
  return 'token' in revocation ? `t:${revocation.token}` : `u:${revocation.user}`;
}

/** Both revocations of a token or user in one. */
export function mergeRevocations(known: Revocation | undefined, added: Revocation): Revocation {
  if (known === undefined) return added;
  const until = Math.max(known.until, added.until);
  if ('token' in added || 'token' in known) return { ...added, until };
  return { ...added, until, before: Math.max(known.before, added.before) };
}

/** What rejects one too many. */
export function tooManyRevocations(): RealtimeException {
  return new RealtimeException('broker_unavailable', `There are ${MAX_REVOCATIONS} revocations, and no more are taken`);
}
