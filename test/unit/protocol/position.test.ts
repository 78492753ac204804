import { describe, expect, it } from '@jest/globals';
import { formatPosition, makeEpoch, makeTag, parsePosition } from '../../../lib/protocol/position.js';

describe('a position', () => {
  it('is epoch, offset and tag', () => {
    expect(formatPosition('aB3xYz', 41, '1k2m3n')).toBe('aB3xYz-41-1k2m3n');
    expect(parsePosition('aB3xYz-41-1k2m3n')).toEqual({ epoch: 'aB3xYz', offset: 41, tag: '1k2m3n' });
    expect(parsePosition('aB3xYz-0-0')).toEqual({ epoch: 'aB3xYz', offset: 0, tag: '0' });
    expect(parsePosition('aB3xYz-9007199254740991-z')).toMatchObject({ offset: Number.MAX_SAFE_INTEGER });
  });

  it.each([
    undefined,
    null,
    41,
    {},
    '',
    'aB3xYz',
    'aB3xYz-41',
    'aB3xY-41-a',
    'aB3xYzz-41-a',
    'aB3xY_-41-a',
    'aB3xYz--1-a',
    'aB3xYz-041-a',
    'aB3xYz-4.1-a',
    'aB3xYz-1e3-a',
    'aB3xYz-9007199254740992-a',
    'aB3xYz-41-',
    'aB3xYz-41-A',
    'aB3xYz-41-a-b',
    'aB3xYz-41-a\n',
    ' aB3xYz-41-a',
  ])('is not %p', (value) => {
    expect(parsePosition(value)).toBeUndefined();
  });

  it('gets an epoch of 6 characters and a tag that is never that of an empty log, whatever the numbers', () => {
    for (const number of [0, 0.5, 1 - Number.EPSILON / 2]) {
      expect(makeEpoch(() => number)).toMatch(/^[0-9A-Za-z]{6}$/);
      const tag = makeTag(() => number);
      expect(tag).not.toBe('0');
      expect(parsePosition(formatPosition('aB3xYz', 1, tag))).toMatchObject({ tag });
    }
  });
});
