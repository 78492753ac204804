import { describe, expect, it } from '@jest/globals';
import { isFrameId, parseFrame } from '../../../lib/protocol/frames.js';

describe('a frame of a peer', () => {
  it.each([
    ['{"event":"a"}', { event: 'a' }],
    ['{"id":0,"event":"a","data":null}', { id: 0, event: 'a', data: null }],
    [
      '{"id":"x","event":"$subscribe","data":{"channel":"c"}}',
      { id: 'x', event: '$subscribe', data: { channel: 'c' } },
    ],
    [`{"event":"${'e'.repeat(128)}"}`, { event: 'e'.repeat(128) }],
  ])('is %s', (text, frame) => {
    expect(parseFrame(text)).toEqual(frame);
  });

  it.each(['', '{', 'null', '1', '"event"', '[]', '{}', '{"event":1}', '{"event":""}', '{"data":"secret"}'])(
    'is not %s',
    (text) => {
      expect(parseFrame(text)).toEqual({ bad: expect.any(String) });
    },
  );

  it('keeps the id of a bad frame where it can be read, and never what the peer sent', () => {
    expect(parseFrame('{"id":7}')).toMatchObject({ id: 7, bad: expect.any(String) });
    expect(parseFrame('{"id":{},"event":"a"}')).toEqual({ bad: expect.any(String) });
    for (const text of ['secret', '{"event":["secret"]}', '{"id":["secret"],"event":"a"}', '"secret"']) {
      expect(JSON.stringify(parseFrame(text))).not.toContain('secret');
    }
    expect(parseFrame(`{"event":"${'e'.repeat(129)}"}`)).toEqual({ bad: expect.not.stringContaining('ee') });
  });

  it('has an id from 0 to 2^53−1, or of 1 to 64 characters', () => {
    for (const id of [0, 1, Number.MAX_SAFE_INTEGER, 'a', 'a'.repeat(64)]) expect(isFrameId(id)).toBe(true);
    for (const id of [-1, -0, 0.5, 2 ** 53, NaN, Infinity, '', 'a'.repeat(65), null, true, {}, []]) {
      expect(isFrameId(id)).toBe(false);
    }
  });

  it('is nested at most 64 levels deep', () => {
    const text = JSON.stringify('[{\\"[['.repeat(100)); // brackets and quotes that nest nothing
    const frame = (depth: number): string =>
      `{"id":1,"event":"e","data":${'[{"a":'.repeat(depth / 2)}${text}${'}]'.repeat(depth / 2)}}`;
    expect(parseFrame(frame(62))).toMatchObject({ id: 1, event: 'e' });
    expect(parseFrame(frame(64))).toEqual({ id: 1, bad: 'The frame is nested more than 64 levels deep' });
    const wide = `{"event":"e","data":[${'[{}],'.repeat(1_000)}0]}`;
    expect(parseFrame(wide)).toMatchObject({ event: 'e' });
    const broken = `{"event":"e","data":${'['.repeat(1_000)}`;
    expect(parseFrame(broken)).toEqual({ bad: 'The frame is not JSON' });
  });

  it('cannot reach a prototype', () => {
    const frame = parseFrame('{"event":"a","data":{"__proto__":{"admin":true}},"__proto__":{"id":1}}');
    expect(Object.getPrototypeOf(frame)).toBe(Object.prototype);
    expect(({} as { admin?: boolean }).admin).toBeUndefined();
  });
});
