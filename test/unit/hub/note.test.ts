import { describe, expect, it } from '@jest/globals';
import { MAX_NOTED_TRACES, publishedAt, tracesOf, writeNote } from '../../../lib/hub/note.js';

const AT = Date.UTC(2026, 0, 1);
const CONTEXT = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
const traces = [
  { index: 0, context: CONTEXT },
  { index: 37, context: CONTEXT.replace('b7', 'b8') },
];

describe('a note', () => {
  it('is none where there is nothing to tell', () => {
    expect(writeNote(undefined, 3)).toBeUndefined();
  });

  it('tells the time, the spans, or both', () => {
    expect(publishedAt(writeNote(AT, 40)!)).toBe(AT);
    expect(tracesOf(writeNote(AT, 40)!, 40)).toEqual([]);
    const both = writeNote(AT, 40, traces)!;
    expect([publishedAt(both), tracesOf(both, 40)]).toEqual([AT, traces]);
    const spans = writeNote(undefined, 40, traces)!;
    expect([publishedAt(spans), tracesOf(spans, 40)]).toEqual([undefined, traces]);
  });

  it('is printable ASCII without spaces, and bounded', () => {
    const many = Array.from({ length: MAX_NOTED_TRACES }, (_, index) => ({ index, context: CONTEXT }));
    const note = writeNote(AT, 1_000, many)!;
    expect(note).toMatch(/^[!-~]+$/);
    expect(note.length).toBeLessThan(1_024);
  });

  it('tells no spans where publications of the call are left out', () => {
    expect(tracesOf(writeNote(AT, 40, traces)!, 39)).toEqual([]);
  });

  it.each(['', ';', ';;', 'x;2', ';2;', ';2;.x', ';2;z.x', ';2;-1.x', ';2;2.x', ';2;0', `;${'2;'.repeat(20)}`])(
    'of another kind tells no spans that could be: %j',
    (note) => {
      for (const { index } of tracesOf(note, 2)) expect([0, 1]).toContain(index);
    },
  );
});
