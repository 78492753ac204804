import { createSecretKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { SignJWT, type JWTHeaderParameters } from 'jose';
import { secret } from './secrets.js';

/** 64 bytes: enough for each of HS256, HS384 and HS512. */
export const SECRET = secret('a secret of the tests, in 64 bytes: 0123456789abcdef0123456789ab');
export const SECRET_KEY = createSecretKey(SECRET, 'utf8');

export interface KeyPair {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

/** A key pair of each kind that tokens are signed with, by the algorithm. */
export const KEYS: Readonly<
  Record<'RS256' | 'ES256' | 'otherES256' | 'thirdES256' | 'ES384' | 'ES512' | 'EdDSA', KeyPair>
> = {
  RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  otherES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  thirdES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  ES384: generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  ES512: generateKeyPairSync('ec', { namedCurve: 'P-521' }),
  EdDSA: generateKeyPairSync('ed25519'),
};

for (const { privateKey } of Object.values(KEYS)) secret(privateKey.export({ type: 'pkcs8', format: 'pem' }) as string);

/** Now, in seconds. */
export function seconds(): number {
  return Math.floor(Date.now() / 1000);
}

/** Signs claims; `sub` is `ann` and `exp` an hour from now unless they say otherwise. The token is watched as a secret. */
export async function sign(
  claims: Record<string, unknown> = {},
  key: KeyObject = SECRET_KEY,
  header: JWTHeaderParameters = { alg: 'HS256' },
): Promise<string> {
  const token = await new SignJWT({ sub: 'ann', exp: seconds() + 3600, ...claims })
    .setProtectedHeader(header)
    .sign(key);
  return secret(token);
}

/** A token as nobody would sign it: its parts as they are given. */
export function forge(header: object, claims: object, signature = ''): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part(header)}.${part(claims)}.${signature}`;
}
