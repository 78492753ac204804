/** What watches the secrets of this test file: see secret-watch.mjs. */
interface SecretWatch {
  secret(text: string, options?: SecretOptions): void;
  logged(text: string): void;
  takeLeaks(): string[];
}

export interface SecretOptions {
  /** A peer is told it, as a ticket is that it asked for: only logs and errors must not hold it. */
  readonly told?: boolean;
}

/**
 * Watches a token, key or password for the rest of the test file, and returns it: the file fails where it occurs in a
 * log line, in the message of an error, or in what a server sends. At least 8 characters that occur nowhere else.
 */
export function secret(text: string, options?: SecretOptions): string {
  watch().secret(text, options);
  return text;
}

/** Has a log line looked at that is printed nowhere. */
export function watchLog(text: string): void {
  watch().logged(text);
}

/** What got out so far, for tests of the watch itself: what was taken does not fail the file. */
export function takeLeaks(): string[] {
  return watch().takeLeaks();
}

function watch(): SecretWatch {
  return (globalThis as unknown as Record<symbol, SecretWatch>)[Symbol.for('nestjs-realtime:secret-watch')]!;
}
