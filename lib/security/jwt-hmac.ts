import { createHmac, timingSafeEqual, type KeyObject } from 'node:crypto';
import { UnsecuredJWT, type JWTClaimVerificationOptions } from 'jose';
import { RealtimeException } from '../protocol/errors.js';
import type { JwtAlgorithm } from './jwt-keys.js';

/** The header by which jose takes claims whose signature was looked at already. */
const UNSECURED = Buffer.from('{"alg":"none"}').toString('base64url');

/**
 * Takes tokens that are signed with a secret, and gives their claims. The signature (RFC 7515, appendix A.1) is compared
 * here, in this thread: jose has a thread of WebCrypto do that, which costs a handshake more than all else that is asked
 * of a token. What the claims have to be is jose's to say. Throws `unauthenticated`, or jose's error.
 */
export function hmacVerification(
  key: KeyObject,
  algorithms: readonly JwtAlgorithm[],
  options: JWTClaimVerificationOptions,
): (token: string) => unknown {
  /** Tokens of one issuer have the same header. */
  let known: { readonly header: string; readonly algorithm: JwtAlgorithm | undefined } | undefined;
  return (token) => {
    const [header, payload, signature, ...rest] = token.split('.');
    if (header === undefined || payload === undefined || signature === undefined || rest.length > 0) throw refused();
    if (known?.header !== header) known = { header, algorithm: algorithmOf(header) };
    const { algorithm } = known;
    if (algorithm === undefined || !algorithms.includes(algorithm)) throw refused();
    const hmac = createHmac(`sha${algorithm.slice('HS'.length)}`, key).update(`${header}.${payload}`);
    // As text: another spelling of the same bytes is another token.
    const expected = Buffer.from(hmac.digest('base64url'));
    const offered = Buffer.from(signature);
    if (offered.length !== expected.length || !timingSafeEqual(offered, expected)) throw refused();
    return UnsecuredJWT.decode(`${UNSECURED}.${payload}.`, options).payload;
  };
}

/** `undefined` for what is no header, and for one with extensions that would have to be understood. */
function algorithmOf(header: string): JwtAlgorithm | undefined {
  try {
    const { alg, crit } = JSON.parse(Buffer.from(header, 'base64url').toString()) as { alg?: unknown; crit?: unknown };
    return crit === undefined ? (alg as JwtAlgorithm) : undefined;
  } catch {
    return undefined;
  }
}

function refused(): RealtimeException {
  return new RealtimeException('unauthenticated');
}
