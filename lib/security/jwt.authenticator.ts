import { UserIdentity } from '../hub/identity.js';
import type { Authenticator } from '../hub/ports/authenticator.js';
import { RealtimeException } from '../protocol/errors.js';
import { resolveJwtOptions, type JwtAuthOptions, type JwtClaims, type JwtSettings } from './jwt-options.js';
import { makeVerify } from './jwt-verification.js';

/**
 * Takes JSON Web Tokens (RFC 7519) as credentials: checks signature, algorithm, `exp` and `nbf`, and `iss` and `aud` where
 * those are given. The claim `sub` is the user's id, `exp` ends the connection unless the token is renewed, and `channels`,
 * where it is there, limits what may be used. A token that has expired is refused with `token_expired`, any other that is
 * wrong with `unauthenticated`; keys that cannot be fetched are a failure of the application: `internal`. Throws a
 * TypeError that lists every mistake in the options.
 */
export function jwtAuth(options: JwtAuthOptions): Authenticator {
  const { cookie, query, firstFrame } = options;
  return {
    ...jwtAuthenticator(resolveJwtOptions(options, 'jwtAuth()')),
    ...(cookie === undefined ? {} : { cookie }),
    ...(query === undefined ? {} : { query }),
    ...(firstFrame === undefined ? {} : { firstFrame }),
  };
}

/** Verifies tokens, wherever they come from. Keys are imported once, here. */
export function jwtAuthenticator(settings: JwtSettings): Authenticator {
  const verify = makeVerify(settings);
  return { name: 'jwt', authenticate: async ({ token }) => identityOf(await verify(token), settings) };
}

function identityOf(claims: JwtClaims, settings: JwtSettings): UserIdentity {
  const { idClaim, channelsClaim, clockToleranceMs } = settings;
  const id = claims[idClaim];
  const { exp } = claims;
  if ((typeof id !== 'string' || id === '') && typeof id !== 'number') throw new RealtimeException('unauthenticated');
  if (exp !== undefined && typeof exp !== 'number') throw new RealtimeException('unauthenticated');
  const expiresAt = exp === undefined ? undefined : exp * 1000 + clockToleranceMs;
  return new UserIdentity(String(id), claims, expiresAt, grantsOf(claims[channelsClaim]));
}

/** A claim that is no list of texts grants nothing. */
function grantsOf(claim: unknown): readonly string[] | undefined {
  if (claim === undefined) return undefined;
  return Array.isArray(claim) ? claim.filter((entry) => typeof entry === 'string') : [];
}
