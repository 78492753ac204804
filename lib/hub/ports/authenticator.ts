import { isRealtimeException, RealtimeException } from '../../protocol/errors.js';
import type { UserIdentity } from '../identity.js';

/** What a peer offered to prove who it is. */
export interface Credentials {
  /** The token, from whatever place it came. */
  readonly token: string;
  /** Where it came from. */
  readonly source: 'header' | 'subprotocol' | 'query' | 'cookie' | 'frame';
}

/** Says who a peer is. */
export interface Authenticator {
  /** Names the implementation. */
  readonly name?: string;
  /** Whether all peers are let in without an identity; their credentials are ignored then. @defaultValue false */
  readonly anonymous?: boolean;
  /** Whether a WebSocket may be accepted first and send its token in `$auth` or `$resume`. @defaultValue true */
  readonly firstFrame?: boolean;
  /**
   * The name of a cookie that may hold the token. A browser sends it with every request, of whatever page: only the
   * check of `origins` keeps other pages out. @defaultValue none is read
   */
  readonly cookie?: string;
  /**
   * The name of a query parameter that may hold the token. It is taken out of the request's URL before guards, hooks and
   * logs of this application see it; those of proxies in front see it. @defaultValue none is read
   */
  readonly query?: string;
  /**
   * Resolves with the identity, or throws. A `RealtimeException` (`unauthenticated`, `token_expired`, `revoked`) refuses
   * the peer and is told as it is, and so does an exception of Nest with status 401 or 403. Anything else is a failure
   * of the application, such as an identity service that does not answer: it is logged and told as `internal`, so that
   * peers come back with the same token.
   */
  authenticate(credentials: Credentials): Promise<UserIdentity>;
}

/** Lets every peer in without an identity: the default. Credentials that a peer offers are ignored. */
export function anonymous(): Authenticator {
  return {
    name: 'anonymous',
    anonymous: true,
    authenticate: () => Promise.reject(new Error('anonymous() has no identities')),
  };
}

/**
 * Asks an authenticator. Rejects with the `RealtimeException` that refuses the peer; with any other error where the
 * authenticator failed, which says nothing of the token.
 */
export async function identify(authenticator: Authenticator, credentials: Credentials): Promise<UserIdentity> {
  let user: UserIdentity;
  try {
    user = await authenticator.authenticate(credentials);
  } catch (error) {
    throw refusalOf(error) ?? failureOf(authenticator, error, credentials);
  }
  const wrong = identityMistake(user);
  if (wrong === undefined) return user;
  throw failureOf(authenticator, new TypeError(wrong), credentials);
}

/** What is wrong with an identity: what is no number would never end. */
function identityMistake(user: Partial<UserIdentity> | undefined): string | undefined {
  if (typeof user?.id !== 'string') return 'It gave no identity whose id is text';
  const { expiresAt } = user;
  if (expiresAt === undefined || (typeof expiresAt === 'number' && !Number.isNaN(expiresAt))) return undefined;
  return 'It gave an identity whose expiresAt is no number of milliseconds';
}

function refusalOf(error: unknown): RealtimeException | undefined {
  if (isRealtimeException(error)) return error;
  const { getStatus } = (error ?? {}) as { getStatus?: unknown };
  if (!(error instanceof Error) || typeof getStatus !== 'function') return undefined;
  const status: unknown = getStatus.call(error);
  if (status === 401) return new RealtimeException('unauthenticated', error.message);
  return status === 403 ? new RealtimeException('forbidden', error.message) : undefined;
}

/** What is logged. Errors of HTTP clients like to repeat what was asked. */
function failureOf({ name }: Authenticator, error: unknown, { token }: Credentials): Error {
  const { message, stack } = error instanceof Error ? error : new Error('A value that is no Error was thrown');
  const named = name === undefined ? '' : ` "${name}"`;
  const withoutToken = (text: string): string => (token === '' ? text : text.replaceAll(token, '[token]'));
  const failure = new Error(withoutToken(`The authenticator${named} failed: ${message}`));
  if (stack !== undefined) failure.stack = withoutToken(`${failure.message}\n${stack}`);
  return failure;
}
