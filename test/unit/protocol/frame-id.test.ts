import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { scanFrameId } from '../../../lib/protocol/frame-id.js';
import { isFrameId } from '../../../lib/protocol/frames.js';

describe('the id of a frame that is not read', () => {
  it.each<[text: string, id: unknown]>([
    ['{"id":7,"event":"a"}', 7],
    ['{"event":"a","data":{},"id":"seven"}', 'seven'],
    [' {\n"event" : "a" ,\t"id" : 0 }\r\n', 0],
    ['{"id":1e2}', 100],
    ['{"id":"\\u0061\\"}"}', 'a"}'],
    ['{"\\u0069d":3}', 3],
    ['{"i\\u0064":4}', 4],
    ['{"data":"{\\"id\\":1}","id":2}', 2],
    ['{"data":{"id":1,"more":[{"id":2}]},"id":3}', 3],
    ['{"id":1,"id":2}', 2],
    ['{"id":1,"data":"a text that was cut', 1],
    ['{"id":1,"data":{"a":[1,2', 1],
  ])('of %s is found', (text, id) => {
    expect(scanFrameId(text)).toBe(id);
  });

  it.each([
    '',
    'id',
    '[{"id":1}]',
    '"id"',
    '{',
    '{"id"',
    '{"id":',
    '{"id":1',
    '{"id":"a',
    '{"event":"a","data":{"id":1}}',
    '{"event":"\\"id\\":1"}',
    '{"data":[{"id":1}],"event":"id"}',
    '{"data":["}",{"id":1}],"event":"]"}',
    '{"id":null}',
    '{"id":-1}',
    '{"id":01}',
    '{"id":1.5}',
    '{"id":true}',
    '{"id":{"id":1}}',
    '{"id":[1]}',
    '{"id":1,"id":null}',
    '{"Id":1,"id ":2," id":3}',
    `{"id":"${'x'.repeat(65)}"}`,
    '{id:1}',
    "{'id':1}",
    'x{"id":1}',
  ])('of %s is none', (text) => {
    expect(scanFrameId(text)).toBeUndefined();
  });

  it('is what a reader of the whole frame finds, whatever else is in it', () => {
    const key = fc.oneof(fc.constantFrom('id', 'event', 'data', '__proto__', 'i"d'), fc.string({ maxLength: 4 }));
    const value = fc.oneof(fc.nat(), fc.string({ maxLength: 70, unit: 'binary' }), fc.jsonValue());
    const space = fc.constantFrom('', '', ' ', '\n', '\t\r ');
    const pairs = fc.array(fc.tuple(key, value, space), { maxLength: 6 });
    fc.assert(
      fc.property(pairs, fc.option(fc.nat(), { nil: undefined }), (entries, indent) => {
        const members = entries.map(
          ([name, data, gap]) =>
            `${gap}${JSON.stringify(name)}${gap}:${gap}${JSON.stringify(data, null, (indent ?? 0) % 3)}${gap}`,
        );
        const text = `{${members.join(',')}}`;
        const { id } = JSON.parse(text) as { id?: unknown };
        expect(scanFrameId(text)).toBe(isFrameId(id) ? id : undefined);
      }),
      { numRuns: 2_000, seed: 20_260_101 },
    );
  });

  it('of any text is found without throwing', () => {
    const piece = fc.constantFrom('{', '}', '[', ']', '"', '\\', ':', ',', '"id"', '1', ' ', 'null', 'é', '\ud800');
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
        const id = scanFrameId(pieces.join(''));
        expect(id === undefined || isFrameId(id)).toBe(true);
      }),
      { numRuns: 2_000, seed: 20_260_101 },
    );
  });
});
