import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { HttpException } from '@nestjs/common';

/** Where a browser keeps that somebody signed in. */
export const ADMIN_COOKIE = 'demo_admin';
export const SESSION_MS = 8 * 3_600_000;

/** How many wrong tokens an address may send in a minute. */
const MAX_WRONG = 5;
const WINDOW_MS = 60_000;
/** Of how many addresses wrong tokens are counted. */
const MAX_ADDRESSES = 10_000;

/** Says who may see the admin page: whoever has the token, or has shown it and has a session for it. */
export class AdminAccess {
  readonly #wrong = new Map<string, { count: number; until: number }>();

  constructor(private readonly token: string) {}

  /** Whether it is the token. Throws 429 for an address that has sent too many that are not. */
  accepts(token: string, ip: string): boolean {
    const now = Date.now();
    const address = ip.replace(/^::ffff:/, ''); // an IPv4 address is written in two ways
    const wrong = this.#wrong.get(address);
    if (wrong !== undefined && wrong.until > now && wrong.count >= MAX_WRONG) {
      throw new HttpException('Too many wrong tokens: wait a minute', 429);
    }
    if (equal(digest(token), digest(this.token))) return true;
    if (this.#wrong.size >= MAX_ADDRESSES) this.#wrong.clear();
    if (wrong !== undefined && wrong.until > now) wrong.count++;
    else this.#wrong.set(address, { count: 1, until: now + WINDOW_MS });
    return false;
  }

  /** What a browser keeps in place of the token: until when it is good, sealed with the token. */
  openSession(): string {
    const until = String(Date.now() + SESSION_MS);
    return `${until}.${this.#seal(until)}`;
  }

  /** Whether a session was made by {@link openSession}, on any node, and is not over. */
  knows(session: string | undefined): boolean {
    const [until = '', seal = ''] = session?.split('.', 2) ?? [];
    return Number(until) > Date.now() && equal(digest(seal), digest(this.#seal(until)));
  }

  #seal(until: string): string {
    return createHmac('sha256', this.token).update(until).digest('base64url');
  }
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** Takes as long for a guess that is almost right as for any other. */
function equal(one: Buffer, other: Buffer): boolean {
  return timingSafeEqual(one, other);
}
