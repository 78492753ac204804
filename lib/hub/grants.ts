import { isDeepStrictEqual } from 'node:util';
import { RealtimeException } from '../protocol/errors.js';
import { isChannelName, matchSegments, patternMistake } from './definition.js';
import type { UserIdentity } from './identity.js';

/** The channels that a list of names and patterns grants; what is neither grants nothing. */
export class Grants {
  readonly #names = new Set<string>();
  /** The patterns with parameters, by how many segments they have. */
  readonly #patterns = new Map<number, (readonly string[])[]>();

  constructor(entries: readonly unknown[]) {
    for (const entry of entries) {
      if (!isChannelName(entry)) continue;
      const segments = entry.split('.');
      if (!segments.some((segment) => segment.startsWith(':'))) this.#names.add(entry);
      else if (patternMistake(entry) === undefined) {
        const known = this.#patterns.get(segments.length);
        if (known === undefined) this.#patterns.set(segments.length, [segments]);
        else known.push(segments);
      }
    }
  }

  allow(channel: string): boolean {
    if (this.#names.has(channel)) return true;
    if (this.#patterns.size === 0) return false;
    const parts = channel.split('.');
    return this.#patterns.get(parts.length)?.some((segments) => matchSegments(segments, parts) !== undefined) ?? false;
  }
}

const compiled = new WeakMap<UserIdentity<unknown>, Grants>();

/** Refuses a channel that the peer's identity does not grant, with `forbidden`. Anonymous peers are not limited. */
export function requireGrant(user: UserIdentity<unknown> | undefined, channel: string): void {
  if (user?.channels === undefined) return;
  let grants = compiled.get(user);
  if (grants === undefined) {
    grants = new Grants(Array.isArray(user.channels) ? (user.channels as readonly unknown[]) : []);
    compiled.set(user, grants);
  }
  if (!grants.allow(channel)) throw new RealtimeException('forbidden', 'The credentials do not grant this channel');
}

/** Whether two identities of one user may do the same: they differ in the times and the id of their token at most. */
export function sameAuthority(a: UserIdentity, b: UserIdentity): boolean {
  return isDeepStrictEqual([lasting(a.claims), a.channels], [lasting(b.claims), b.channels]);
}

function lasting(claims: Readonly<Record<string, unknown>> | undefined): Record<string, unknown> {
  const { exp: _exp, iat: _iat, nbf: _nbf, jti: _jti, ...rest } = claims ?? {};
  return rest;
}
