/*
 * What a node tells the others of publications on the way: `<when they were made, ms since 1970, in base 36>`.
 */

/** Writes the note of a call. */
export function writeNote(at: number): string {
  return at.toString(36);
}

/** When the publications of a note were made, ms since 1970. */
export function publishedAt(note: string): number | undefined {
  const at = parseInt(note, 36);
  return Number.isSafeInteger(at) ? at : undefined;
}
