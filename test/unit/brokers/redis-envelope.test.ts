import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { decodeEnvelope, encodeParts } from '../../../lib/brokers/redis-envelope.js';

/** An envelope as the script makes it, which adds the header to the parts. */
function write(items: { event: string; data: string; exclude?: string }[], header = '1 Ab3dE6 43 k3 42-k2'): Buffer {
  const { lengths, body } = encodeParts(items);
  return Buffer.from(`${header} ${items.length} ${lengths}\n${body}`);
}

describe('the envelope on pub/sub', () => {
  test('is a header line and the raw parts', () => {
    const items = [
      { event: 'message', data: '{"text":"hi"}', exclude: 'c1' },
      { event: 'é', data: '"漢🎈"' },
    ];
    expect(write(items).toString()).toBe('1 Ab3dE6 43 k3 42-k2 2 7 13 2 2 9 0\nmessage{"text":"hi"}c1é"漢🎈"');
    expect(decodeEnvelope(write(items))).toEqual({
      epoch: 'Ab3dE6',
      prev: { offset: 42, tag: 'k2' },
      first: 43,
      tag: 'k3',
      items,
    });
  });

  test('keeps any event, data and exclude', () => {
    const text = fc.string({ unit: 'grapheme' });
    const item = fc.record({ event: text, data: text, exclude: fc.string({ unit: 'grapheme', minLength: 1 }) });
    const bare = fc.record({ event: text, data: text });
    fc.assert(
      fc.property(fc.array(fc.oneof(item, bare), { minLength: 1, maxLength: 20 }), (items) => {
        expect(decodeEnvelope(write(items))?.items).toEqual(items);
      }),
    );
  });

  test('may end its header with a note', () => {
    expect(decodeEnvelope(Buffer.from('1 Ab3dE6 43 k3 42-k2 1 1 1 0 m1x2/0.00-ab-01\nab'))).toEqual({
      epoch: 'Ab3dE6',
      prev: { offset: 42, tag: 'k2' },
      first: 43,
      tag: 'k3',
      items: [{ event: 'a', data: 'b' }],
      note: 'm1x2/0.00-ab-01',
    });
  });

  test('counts the bytes of the body', () => {
    const { body, bytes } = encodeParts([{ event: 'é', data: '"漢🎈"', exclude: 'ü' }]);
    expect(bytes).toBe(Buffer.byteLength(body));
  });

  test.each([
    ['', 'nothing'],
    ['1 Ab3dE6 43 k3 42-k2 1 1 1 0', 'no body'],
    ['2 Ab3dE6 43 k3 42-k2 1 1 1 0\nab', 'another version'],
    ['1 Ab3dE6 43 k3 42-k2 2 1 1 0\nab', 'another number of lengths'],
    ['1 Ab3dE6 43 k3 42-k2 1 1 1 0 x y\nab', 'two notes'],
    ['1 Ab3dE6 43 k3 42-k2 1 1 1 0\nabc', 'a longer body'],
    ['1 Ab3dE6 43 k3 42-k2 1 1 9 0\nab', 'a shorter body'],
    ['1 Ab3dE6 43 k3 42 1 1 1 0\nab', 'no predecessor'],
    ['hello\nworld', 'something else'],
  ])('reads %j as none: %s', (text) => {
    expect(decodeEnvelope(Buffer.from(text))).toBeUndefined();
  });

  test('never throws, whatever comes', () => {
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        expect(() => decodeEnvelope(Buffer.from(bytes))).not.toThrow();
      }),
    );
  });
});
