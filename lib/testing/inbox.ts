/** What waits to be asked for, in the order of its coming, and who waits for more. */
export class Inbox<T> {
  readonly #items: T[] = [];
  readonly #waiting = new Set<Waiting<T>>();
  #failure: Error | undefined;

  /** Gives it to whoever has waited longest for such, or keeps it. */
  put(item: T): void {
    for (const waiting of this.#waiting) {
      if (!waiting.matches(item)) continue;
      waiting.end();
      waiting.resolve(item);
      return;
    }
    this.#items.push(item);
  }

  /** Nothing comes any more: whoever waits rejects, and whoever asks for what is not there. */
  fail(error: Error): void {
    this.#failure = error;
    for (const { end, reject } of this.#waiting) {
      end();
      reject(error);
    }
  }

  /** What comes is worth waiting for again. */
  reopen(): void {
    this.#failure = undefined;
  }

  /** Takes the oldest that matches; the others stay. Rejects with what `late` makes, after so many ms. */
  take(matches: (item: T) => boolean, timeoutMs: number, late: () => Error): Promise<T> {
    const index = this.#items.findIndex(matches);
    if (index >= 0) return Promise.resolve(this.#items.splice(index, 1)[0]!);
    if (this.#failure) return Promise.reject(this.#failure);
    return new Promise<T>((resolve, reject) => {
      const timer = setTimeout(() => {
        waiting.end();
        reject(late());
      }, timeoutMs);
      const waiting: Waiting<T> = {
        matches,
        resolve,
        reject,
        end: () => {
          clearTimeout(timer);
          this.#waiting.delete(waiting);
        },
      };
      this.#waiting.add(waiting);
    });
  }

  /** All that is there, which stays. */
  list(): readonly T[] {
    return this.#items;
  }

  /** Takes all that is there. */
  takeAll(): T[] {
    return this.#items.splice(0);
  }
}

interface Waiting<T> {
  readonly matches: (item: T) => boolean;
  readonly resolve: (item: T) => void;
  readonly reject: (error: Error) => void;
  readonly end: () => void;
}
