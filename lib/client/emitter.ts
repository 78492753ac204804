type Listener<A extends unknown[]> = (...args: A) => unknown;

/**
 * Listeners by name. A listener that throws, or whose promise rejects, is reported to `onThrow`; the others are still
 * called. A listener added while an event is emitted counts from the next event on.
 */
export class Emitter<E extends Record<keyof E, unknown[]>> {
  readonly #listeners = new Map<keyof E, Set<{ readonly fn: Listener<never> }>>();
  readonly #onThrow: (error: unknown) => void;

  constructor(onThrow: (error: unknown) => void) {
    this.#onThrow = onThrow;
  }

  /** Adds a listener; returns what removes it. The same function may be added several times. */
  on<K extends keyof E>(name: K, fn: Listener<E[K]>): () => void {
    const entry = { fn: fn as Listener<never> };
    const entries = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, entries.add(entry));
    return () => entries.delete(entry);
  }

  /** Calls the listeners of a name in the order they were added; false if there is none. */
  emit<K extends keyof E>(name: K, ...args: E[K]): boolean {
    const entries = [...(this.#listeners.get(name) ?? [])];
    for (const { fn } of entries) {
      try {
        const result = (fn as Listener<E[K]>)(...args);
        if (result instanceof Promise) result.catch(this.#onThrow);
      } catch (error) {
        this.#onThrow(error);
      }
    }
    return entries.length > 0;
  }
}
