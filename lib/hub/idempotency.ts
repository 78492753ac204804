import { RealtimeException } from '../protocol/errors.js';
import { MAX_KEY_LENGTH } from '../protocol/frames.js';
import type { UserIdentity } from './identity.js';

/** Checks a key that a peer gave. Throws `invalid`. */
export function requireKey(key: unknown): asserts key is string {
  if (typeof key === 'string' && key !== '' && key.length <= MAX_KEY_LENGTH) return;
  throw new RealtimeException('invalid', `A key is text of 1 to ${MAX_KEY_LENGTH} characters`);
}

/** What makes repeated publishes of a peer one: its own key, else what names the frame. */
export function keyOf(
  { user }: { readonly user: UserIdentity | undefined },
  key: string | undefined,
  frameKey: string | undefined,
): { key?: string } {
  if (key !== undefined) return { key: scopedKey(user, key) };
  return frameKey === undefined ? {} : { key: frameKey };
}

/** A key of the peer's own: users have a scope each, anonymous peers share one. */
function scopedKey(user: UserIdentity | undefined, key: string): string {
  return user === undefined ? `a:${key}` : `u:${user.id.length}:${user.id}:${key}`;
}
