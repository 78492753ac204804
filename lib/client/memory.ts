/** The part of a page's `Storage` that the client uses. */
export type ClientStorage = Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>;

/** Remembers for a while which transport works, for the pages to come. Storage that fails remembers nothing. */
export class Memory {
  readonly #storage: ClientStorage | null;
  readonly #key: string;
  readonly #forMs: number;

  /** @param storage - by default the page's `localStorage`, which may be forbidden; `null`: none */
  constructor(key: string, forMs: number, storage: ClientStorage | null | undefined) {
    this.#key = key;
    this.#forMs = forMs;
    // Node has one too, which warns when it is touched.
    this.#storage = attempt(() => (storage === undefined && 'document' in globalThis ? localStorage : storage)) ?? null;
  }

  /** What was remembered, unless that is too long ago. */
  recall(now: number): string | undefined {
    const [until, name] = attempt(() => this.#storage?.getItem(this.#key))?.split(' ') ?? [];
    // A clock that was set back must not make it last.
    const leftMs = Number(until) - now;
    return leftMs > 0 && leftMs <= this.#forMs ? name : undefined;
  }

  /** Remembers from now on; `undefined` forgets. */
  note(name: string | undefined, now: number): void {
    attempt(() => {
      if (name === undefined) this.#storage?.removeItem(this.#key);
      else this.#storage?.setItem(this.#key, `${now + this.#forMs} ${name}`);
    });
  }
}

function attempt<T>(fn: () => T): T | undefined {
  try {
    return fn();
  } catch {
    return undefined;
  }
}
