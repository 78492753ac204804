/*
 * What a node tells the others of publications on the way: `<when they were made, ms since 1970, in base 36>`, empty where
 * that is not taken; where some are traced then `;<how many publications the call has>`, and for each that is traced
 * `;<which one>.<the context of its span>`, numbers in base 36. Who knows no traces reads the time alone.
 */

/** Publications of a call whose traces go along. */
export const MAX_NOTED_TRACES = 16;

/** The span of a publication of a call. */
export interface NotedTrace {
  readonly index: number;
  readonly context: string;
}

/** Writes the note of a call of `count` publications; `undefined`: there is nothing to tell. */
export function writeNote(at: number | undefined, count: number, traces?: readonly NotedTrace[]): string | undefined {
  const time = at?.toString(36);
  if (traces === undefined) return time;
  const noted = traces.map(({ index, context }) => `;${index.toString(36)}.${context}`);
  return `${time ?? ''};${count.toString(36)}${noted.join('')}`;
}

/** When the publications of a note were made, ms since 1970. */
export function publishedAt(note: string): number | undefined {
  const at = parseInt(note, 36);
  return Number.isSafeInteger(at) ? at : undefined;
}

/**
 * The spans of the publications of a note that came with `count` of them. None where the call had more: those that were
 * known already are left out, and which they were is not told.
 */
export function tracesOf(note: string, count: number): readonly NotedTrace[] {
  const [, total, ...noted] = note.split(';', MAX_NOTED_TRACES + 2);
  if (total === undefined || parseInt(total, 36) !== count) return [];
  return noted.flatMap((text) => {
    const dot = text.indexOf('.');
    const index = parseInt(text.slice(0, dot), 36);
    return index >= 0 && index < count ? { index, context: text.slice(dot + 1) } : [];
  });
}
