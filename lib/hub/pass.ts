import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

const ID_BYTES = 12;
const SECRET_BYTES = 16;
/** The id of a connection in base64url, then its secret. */
const PASS = /^([\w-]{16})([\w-]{22})$/;

/** A new connection that outlives its links: its id, and what its links prove themselves by. */
export function makePass(): { id: string; secretHash: string; pass: string } {
  const id = randomBytes(ID_BYTES).toString('base64url');
  const secret = randomBytes(SECRET_BYTES).toString('base64url');
  return { id, secretHash: digest(secret), pass: id + secret };
}

/** What a pass says; `undefined` for a text that is none. Never throws. */
export function readPass(pass: unknown): { id: string; secretHash: string } | undefined {
  const match = typeof pass === 'string' ? PASS.exec(pass) : null;
  return match === null ? undefined : { id: match[1]!, secretHash: digest(match[2]!) };
}

/** Whether two digests are the same, found in constant time. */
export function sameDigest(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));
}

/** What a secret is known by to those who store it. */
export function digest(secret: string): string {
  return createHash('sha256').update(secret).digest('base64url');
}
