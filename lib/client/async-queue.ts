import { CodedException } from '../protocol/errors.js';

/**
 * Values on their way to one `for await`. At most `limit` wait for a slow reader: one more ends the iteration with
 * `slow_consumer`, after the values that wait were read.
 */
export class AsyncQueue<T> implements AsyncIterableIterator<T, undefined> {
  readonly #limit: number;
  readonly #onLeave: () => void;
  #values: T[] = [];
  #ended = false;
  #error: Error | undefined;
  /** Calls of `next()` that wait: each looks again. */
  readonly #waiting: (() => void)[] = [];

  /** `onLeave` is called once, when the reader leaves early or the queue overflows. */
  constructor(limit: number, onLeave: () => void) {
    this.#limit = limit;
    this.#onLeave = onLeave;
  }

  push(value: T): void {
    if (this.#ended) return;
    if (this.#values.length < this.#limit) {
      this.#values.push(value);
      this.#waiting.shift()?.();
    } else {
      this.end(new CodedException('slow_consumer'));
      this.#onLeave();
    }
  }

  /** Ends the iteration after the values that wait, with an error if one is given. */
  end(error?: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    for (const look of this.#waiting) look();
  }

  async next(): Promise<IteratorResult<T, undefined>> {
    while (this.#values.length === 0 && !this.#ended) {
      await new Promise<void>((look) => this.#waiting.push(look));
    }
    if (this.#values.length > 0) return { value: this.#values.shift()!, done: false };
    const error = this.#error;
    this.#error = undefined;
    if (error !== undefined) throw error;
    return { value: undefined, done: true };
  }

  return(): Promise<IteratorResult<T, undefined>> {
    this.#values = [];
    this.#error = undefined;
    if (!this.#ended) {
      this.end();
      this.#onLeave();
    }
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
