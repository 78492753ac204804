/**
 * The place of a publication in a channel, as text `epoch-offset-tag`: the epoch (6 characters of base 62) names one
 * life of the channel's log, the offset counts publications from 1, the random tag tells two logs apart that gave out
 * the same offset (a broker that diverged in a failover). Opaque to peers.
 */
export type Position = string;

/** A position taken apart. */
export interface PositionParts {
  readonly epoch: string;
  readonly offset: number;
  readonly tag: string;
}

const POSITION = /^([0-9A-Za-z]{6})-(0|[1-9][0-9]{0,15})-([0-9a-z]{1,13})$/;
const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** Writes a position. */
export function formatPosition(epoch: string, offset: number, tag: string): Position {
  return `${epoch}-${offset}-${tag}`;
}

/** Takes a position apart; `undefined` for anything that is not one. Never throws. */
export function parsePosition(text: unknown): PositionParts | undefined {
  if (typeof text !== 'string') return undefined;
  const match = POSITION.exec(text);
  if (!match) return undefined;
  const offset = Number(match[2]);
  if (!Number.isSafeInteger(offset)) return undefined;
  return { epoch: match[1]!, offset, tag: match[3]! };
}

/** A new epoch, or the epoch of a given number source (tests). */
export function makeEpoch(random: () => number = Math.random): string {
  let epoch = '';
  for (let i = 0; i < 6; i++) epoch += BASE62.charAt(Math.floor(random() * 62));
  return epoch;
}

/** A new tag: 32 random bits in base 36, never `0`, which is the tag of an empty log. */
export function makeTag(random: () => number = Math.random): string {
  return (1 + Math.floor(random() * 0xfffffffe)).toString(36);
}
