import { parsePosition, type Position } from './position.js';

/** The longest cursor that is read: it travels in a header, and proxies refuse headers of 8 KiB. */
export const MAX_CURSOR_LENGTH = 4096;

/** A set of positions by slot, and the connection it belongs to, if it is of one. */
export interface Cursor {
  readonly pass?: string;
  /** The frames of the connection's inbox up to here have arrived. */
  readonly inbox?: number;
  readonly positions: ReadonlyMap<number, Position>;
}

const ALPHABET = /^[0-9A-Za-z._:!~-]*$/;
const SLOT = /^(0|[1-9a-z][0-9a-z]{0,4})$/;
const HEAD = /^1(?:\.([0-9A-Za-z_-]{1,64})(?:\.([1-9][0-9]{0,14}))?)?$/;

/** Writes a cursor: `"1" [ "." pass [ "." inbox ] ] "~" slot ":" position { "!" … }`, slots in base 36. */
export function formatCursor(positions: Iterable<readonly [number, Position]>, pass?: string, inbox = 0): string {
  let text = pass === undefined ? '1~' : inbox === 0 ? `1.${pass}~` : `1.${pass}.${inbox}~`;
  let first = true;
  for (const [slot, position] of positions) {
    if (!first) text += '!';
    first = false;
    text += `${slot.toString(36)}:${position}`;
  }
  return text;
}

/** Reads a cursor; `undefined` for anything that is not one. Never throws, whatever the text. */
export function parseCursor(text: unknown): Cursor | undefined {
  if (typeof text !== 'string' || text.length > MAX_CURSOR_LENGTH || !ALPHABET.test(text)) return undefined;
  const split = text.indexOf('~');
  if (split === -1) return undefined;
  const head = HEAD.exec(text.slice(0, split));
  if (head === null) return undefined;
  const positions = new Map<number, Position>();
  const body = text.slice(split + 1);
  if (body !== '') {
    for (const item of body.split('!')) {
      const colon = item.indexOf(':');
      const slot = item.slice(0, colon);
      const position = item.slice(colon + 1);
      if (colon === -1 || !SLOT.test(slot) || !parsePosition(position)) return undefined;
      const number = parseInt(slot, 36);
      if (positions.has(number)) return undefined;
      positions.set(number, position);
    }
  }
  const [, pass, inbox] = head;
  if (pass === undefined) return { positions };
  return inbox === undefined ? { pass, positions } : { pass, inbox: Number(inbox), positions };
}
