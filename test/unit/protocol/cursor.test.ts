import { describe, expect, it } from '@jest/globals';
import { formatCursor, MAX_CURSOR_LENGTH, parseCursor } from '../../../lib/protocol/cursor.js';

const at = (offset: number): string => `aB3xYz-${offset}-t${offset}`;

describe('a cursor', () => {
  it('is a set of positions by slot, slots in base 36', () => {
    const text = formatCursor([
      [0, at(1)],
      [35, at(2)],
      [36, at(3)],
    ]);
    expect(text).toBe(`1~0:${at(1)}!z:${at(2)}!10:${at(3)}`);
    expect([...parseCursor(text)!.positions]).toEqual([
      [0, at(1)],
      [35, at(2)],
      [36, at(3)],
    ]);
  });

  it('may be empty, and may hold the pass of a connection', () => {
    expect(formatCursor([])).toBe('1~');
    expect(parseCursor('1~')).toEqual({ positions: new Map() });
    expect(formatCursor([[0, at(1)]], 'se-cr_et')).toBe(`1.se-cr_et~0:${at(1)}`);
    expect(parseCursor(`1.se-cr_et~0:${at(1)}`)).toEqual({ pass: 'se-cr_et', positions: new Map([[0, at(1)]]) });
  });

  it.each([
    [undefined],
    [null],
    [1],
    [''],
    ['1'],
    ['2~'],
    ['1.~'],
    [`1.${'p'.repeat(65)}~`],
    ['1.a.b~'],
    ['1~0'],
    ['1~0:'],
    [`1~${at(1)}`],
    [`1~00:${at(1)}`],
    [`1~A:${at(1)}`],
    [`1~123456:${at(1)}`],
    [`1~0:${at(1)}!`],
    [`1~!0:${at(1)}`],
    [`1~0:${at(1)}!0:${at(2)}`],
    [`1~0:${at(1)}\r\nSet-Cookie: a=b`],
    [`1~0:${at(1)} `],
    [`1~0:${at(1)}%`],
  ])('is not %p', (text) => {
    expect(parseCursor(text)).toBeUndefined();
  });

  it('has a longest length', () => {
    const slots = Array.from({ length: 1_000 }, (_, slot) => [slot, at(slot)] as const);
    const fitting = slots.filter((_, i) => formatCursor(slots.slice(0, i + 1)).length <= MAX_CURSOR_LENGTH);
    expect(parseCursor(formatCursor(fitting))?.positions.size).toBe(fitting.length);
    expect(parseCursor(formatCursor(slots.slice(0, fitting.length + 1)))).toBeUndefined();
  });
});
