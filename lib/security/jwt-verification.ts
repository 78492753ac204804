import { createSecretKey, type webcrypto } from 'node:crypto';
import { createRemoteJWKSet, jwtVerify, type JWTClaimVerificationOptions, type JWTVerifyOptions } from 'jose';
import { RealtimeException } from '../protocol/errors.js';
import { hmacVerification } from './jwt-hmac.js';
import type { JwtClaims, JwtSettings, JwtVerifier } from './jwt-options.js';

/** Verifies a token: resolves with its claims; rejects with a `RealtimeException` to refuse it, with another error where that failed. */
export type Verify = (token: string) => Promise<JwtClaims>;

/** What is wrong with a token, by the codes of jose's errors. */
const REFUSED = new Set([
  'ERR_JWT_CLAIM_VALIDATION_FAILED',
  'ERR_JWT_INVALID',
  'ERR_JWS_INVALID',
  'ERR_JWS_SIGNATURE_VERIFICATION_FAILED',
  'ERR_JOSE_ALG_NOT_ALLOWED',
  'ERR_JOSE_NOT_SUPPORTED',
  'ERR_JWKS_NO_MATCHING_KEY',
  'ERR_JWKS_MULTIPLE_MATCHING_KEYS',
]);
/** What jsonwebtoken says in an error of a token where the fault is the application's. */
const MISCONFIGURED = /^(?:secret or public key must|error in secret|secretOrPublicKey is not)/;

/** The way of verifying tokens that the options name. */
export function makeVerify(settings: JwtSettings): Verify {
  const verify = verifyBy(settings);
  return async (token) => {
    let claims: unknown;
    try {
      claims = await verify(token);
    } catch (error) {
      throw refusalOf(error) ?? error;
    }
    if (claims === undefined || claims === null) throw new RealtimeException('unauthenticated');
    if (typeof claims === 'object' && !Array.isArray(claims)) return claims as JwtClaims;
    throw new TypeError('What verifies the tokens gave claims that are no object');
  };
}

function verifyBy({ source, algorithms, issuer, audience, clockToleranceMs }: JwtSettings): (token: string) => unknown {
  const claims: JWTClaimVerificationOptions = {
    clockTolerance: clockToleranceMs / 1000,
    ...(issuer === undefined ? {} : { issuer: [...issuer] }),
    ...(audience === undefined ? {} : { audience: [...audience] }),
  };
  const options: JWTVerifyOptions = algorithms === undefined ? claims : { ...claims, algorithms: [...algorithms] };
  switch (source.kind) {
    case 'secret':
      return hmacVerification(createSecretKey(source.secret), algorithms ?? [], claims);
    case 'publicKey':
      return async (token) => (await jwtVerify(token, source.key, options)).payload;
    case 'jwksUri':
      return verifyByKeySet(source, options);
    case 'service':
      return verifyByService(source.service, options);
    case 'verify':
      return source.verify;
    default:
      return source satisfies never;
  }
}

function verifyByKeySet(
  { url, cacheMs, cooldownMs, timeoutMs }: Extract<JwtSettings['source'], { kind: 'jwksUri' }>,
  options: JWTVerifyOptions,
): (token: string) => Promise<unknown> {
  const keys = createRemoteJWKSet(url, {
    cacheMaxAge: cacheMs,
    cooldownDuration: cooldownMs,
    timeoutDuration: timeoutMs,
  });
  return async (token) => {
    try {
      return (await jwtVerify(token, keys, options)).payload;
    } catch (error) {
      if (codeOf(error) === 'ERR_JWKS_MULTIPLE_MATCHING_KEYS') {
        return verifyByAny(token, error as AsyncIterable<webcrypto.CryptoKey>, options);
      }
      if (refusalOf(error) !== undefined) throw error;
      throw new Error(`The keys at ${url.origin}${url.pathname} cannot be used: ${causeOf(error)}`, { cause: error });
    }
  };
}

/** A token that does not name its key, where several would do: as while keys are being replaced. */
async function verifyByAny(
  token: string,
  keys: AsyncIterable<webcrypto.CryptoKey>,
  options: JWTVerifyOptions,
): Promise<unknown> {
  for await (const key of keys) {
    try {
      return (await jwtVerify(token, key, options)).payload;
    } catch (error) {
      if (codeOf(error) !== 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED') throw error;
    }
  }
  throw new RealtimeException('unauthenticated');
}

/** Options that were not given are left out, so that those of the service's module count. */
function verifyByService(
  service: JwtVerifier,
  { clockTolerance, ...options }: JWTVerifyOptions,
): (token: string) => Promise<unknown> {
  const given = clockTolerance === 0 ? options : { ...options, clockTolerance };
  return (token) => service.verifyAsync(token, { ...given });
}

/** The refusal for an error of jose or jsonwebtoken that says something is wrong with the token. */
function refusalOf(error: unknown): RealtimeException | undefined {
  const code = codeOf(error);
  const { name, message } = (error ?? {}) as Partial<Error>;
  if (code === 'ERR_JWT_EXPIRED' || name === 'TokenExpiredError') return new RealtimeException('token_expired');
  const refused =
    REFUSED.has(code) ||
    name === 'NotBeforeError' ||
    (name === 'JsonWebTokenError' && !MISCONFIGURED.test(message ?? ''));
  return refused ? new RealtimeException('unauthenticated') : undefined;
}

function codeOf(error: unknown): string {
  const { code } = (error ?? {}) as { code?: unknown };
  return typeof code === 'string' ? code : '';
}

/** Why a fetch failed is in the cause of its error. */
function causeOf(error: unknown): string {
  const { message, cause } = error as Error;
  const code = codeOf(cause);
  return code === '' ? message : `${message} (${code})`;
}
