import { createPublicKey, KeyObject, type JsonWebKey } from 'node:crypto';

const HMAC_BYTES = { HS256: 32, HS384: 48, HS512: 64 } as const;
const RSA = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'] as const;
const CURVES: Readonly<Record<string, JwtAlgorithm>> = { prime256v1: 'ES256', secp384r1: 'ES384', secp521r1: 'ES512' };
const MIN_RSA_BITS = 2048;

/** The algorithms that a token may be signed with (RFC 7518, section 3.1, and RFC 8037): the whole list, without `none`. */
export type JwtAlgorithm = keyof typeof HMAC_BYTES | (typeof RSA)[number] | 'ES256' | 'ES384' | 'ES512' | 'EdDSA';

/** Those with a secret. */
export const HMAC_ALGORITHMS = Object.keys(HMAC_BYTES) as readonly JwtAlgorithm[];
/** Those with a public key. */
export const PUBLIC_KEY_ALGORITHMS: readonly JwtAlgorithm[] = [...RSA, ...Object.values(CURVES), 'EdDSA'];

/** A key that was read, and the algorithms that it is for; else why it cannot be used, in words that do not repeat it. */
export type KeyReading<K> =
  { readonly key: K; readonly algorithms: readonly JwtAlgorithm[] } | { readonly mistake: string };

/** Reads a secret: each algorithm needs one as long as its hash (RFC 7518, section 3.2). */
export function readSecret(secret: unknown): KeyReading<Uint8Array> {
  const bytes = bytesOf(secret);
  if (bytes === undefined) return { mistake: 'expected text, bytes (Uint8Array) or a KeyObject that is a secret' };
  if (/^\s*-----BEGIN /.test(bytes.toString('latin1'))) {
    return { mistake: 'is a key in PEM, whose public half is no secret: give it as `publicKey`' };
  }
  const algorithms = HMAC_ALGORITHMS.filter((name) => bytes.length >= HMAC_BYTES[name as keyof typeof HMAC_BYTES]);
  if (algorithms.length > 0) return { key: bytes, algorithms };
  const needed = `HS256 needs at least ${HMAC_BYTES.HS256} bytes that nobody can guess`;
  return { mistake: `is ${bytes.length} bytes long; ${needed}, such as those of \`openssl rand -base64 32\`` };
}

/** Reads a public key: PEM (SPKI, PKCS #1 or a certificate), JWK or KeyObject. */
export function readPublicKey(given: unknown): KeyReading<KeyObject> {
  const key = publicKeyOf(given);
  if (key === undefined) return { mistake: 'expected a public key: PEM text, a JWK or a KeyObject' };
  if (key === 'private') return { mistake: 'is a private key: whoever signs tokens keeps it; give its public half' };
  const algorithms = algorithmsOf(key, given);
  if (algorithms.length > 0) return { key, algorithms };
  const supported = `RSA of at least ${MIN_RSA_BITS} bits, P-256, P-384, P-521 and Ed25519`;
  return { mistake: `is of a kind that no algorithm is for; supported are ${supported}` };
}

function bytesOf(secret: unknown): Buffer | undefined {
  if (typeof secret === 'string') return Buffer.from(secret);
  if (secret instanceof KeyObject) return secret.type === 'secret' ? secret.export() : undefined;
  if (!ArrayBuffer.isView(secret)) return undefined;
  return Buffer.from(Buffer.from(secret.buffer, secret.byteOffset, secret.byteLength)); // a copy: theirs may be wiped
}

function publicKeyOf(given: unknown): KeyObject | 'private' | undefined {
  if (given instanceof KeyObject)
    return given.type === 'secret' ? undefined : given.type === 'private' ? 'private' : given;
  try {
    if (typeof given === 'string') {
      return given.includes('PRIVATE KEY-----') ? 'private' : createPublicKey({ key: given, format: 'pem' });
    }
    const jwk = given as JsonWebKey;
    return jwk.d === undefined ? createPublicKey({ key: jwk, format: 'jwk' }) : 'private';
  } catch {
    return undefined;
  }
}

/** Where a JWK names its algorithm, that one alone. */
function algorithmsOf({ asymmetricKeyType, asymmetricKeyDetails = {} }: KeyObject, given: unknown): JwtAlgorithm[] {
  const { modulusLength = 0, namedCurve = '' } = asymmetricKeyDetails;
  const ofKind: readonly (JwtAlgorithm | undefined)[] =
    asymmetricKeyType === 'rsa' && modulusLength >= MIN_RSA_BITS
      ? RSA
      : asymmetricKeyType === 'ec'
        ? [CURVES[namedCurve]]
        : asymmetricKeyType === 'ed25519'
          ? ['EdDSA']
          : [];
  const { alg } = given as { alg?: unknown };
  return ofKind.filter((name) => name !== undefined && (typeof alg !== 'string' || alg === name)) as JwtAlgorithm[];
}
