import { describe, expect, test } from '@jest/globals';
import { EventStreamReader } from '../../../lib/client/event-stream.js';
import { seededRandom } from './fake-transport.js';

function read(pieces: string[]): string[] {
  const events: string[] = [];
  const reader = new EventStreamReader(
    (data) => events.push(data),
    (ms) => events.push(`retry ${ms}`),
  );
  for (const piece of pieces) reader.push(piece);
  return events;
}

describe('the reader of event streams', () => {
  test('reads data, ignores comments and other fields', () => {
    const text = ': hello\nretry: 2000\nid: 1~0:epochA-1-t\nevent: message\ndata: {"a":1}\n\n: beat\n\ndata:2\n\n';
    expect(read([text])).toEqual(['{"a":1}', '2']);
  });

  test('tells a retry that comes by itself, where it is digits', () => {
    expect(read(['retry: 2000\ndata: a\n\nretry: 300\n\nretry: soon\n\n: beat\n\n'])).toEqual(['a', 'retry 300']);
  });

  test('joins the lines of data by LF and keeps all spaces but the first', () => {
    expect(read(['data: a\ndata:  b\ndata:\ndata: c\n\n'])).toEqual(['a\n b\n\nc']);
  });

  test('does not tell an event that is not ended by a blank line', () => {
    expect(read(['data: a\n'])).toEqual([]);
  });

  test.each([
    ['LF', '\n'],
    ['CRLF', '\r\n'],
  ])('reads lines that end with %s, cut at every place', (_, eol) => {
    const text = [': beat', '', 'data: first', 'id: 1', '', 'data: {"x":"é漢😀"}', 'data: more', '', ''].join(eol);
    for (let cut = 0; cut <= text.length; cut++) {
      expect(read([text.slice(0, cut), text.slice(cut)])).toEqual(['first', '{"x":"é漢😀"}\nmore']);
    }
    expect(read(Array.from(text))).toEqual(['first', '{"x":"é漢😀"}\nmore']);
  });

  test('reads lines that end with CR', () => {
    expect(read(['data: a\r\rdata: b\r\r', 'data: c\r'])).toEqual(['a', 'b']);
  });

  test('reads bytes that are cut inside a character', () => {
    const bytes = new TextEncoder().encode('data: é漢😀\r\n\r\ndata: ü\n\n');
    const random = seededRandom(7);
    for (let run = 0; run < 300; run++) {
      const decoder = new TextDecoder();
      const pieces: string[] = [];
      for (let at = 0; at < bytes.length;) {
        const length = 1 + Math.floor(random() * 4);
        pieces.push(decoder.decode(bytes.subarray(at, at + length), { stream: true }));
        at += length;
      }
      expect(read(pieces)).toEqual(['é漢😀', 'ü']);
    }
  });
});
