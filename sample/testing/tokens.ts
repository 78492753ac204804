import { SignJWT } from 'jose';
import { JWT_SECRET } from './app.module.js';

const key = new TextEncoder().encode(JWT_SECRET);

/** A token of a user, which ends at a time, in ms since 1970. */
export function tokenOf(user: string, endsAt: number = Date.now() + 3_600_000): Promise<string> {
  return new SignJWT({ sub: user })
    .setProtectedHeader({ alg: 'HS256' })
    .setExpirationTime(Math.floor(endsAt / 1_000))
    .sign(key);
}
