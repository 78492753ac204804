interface Request {
  readonly callback: () => unknown;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * The Web Locks of a browser, for clients in one process: exclusive ones, first come first served, with `signal` and
 * `steal` (https://w3c.github.io/web-locks/).
 */
export class TabLocks {
  readonly #held = new Map<string, Request>();
  readonly #waiting = new Map<string, Request[]>();

  request(name: string, ...rest: [object, () => unknown] | [() => unknown]): Promise<unknown> {
    const callback = rest.at(-1) as () => unknown;
    const { signal, steal } = (rest.length > 1 ? rest[0] : {}) as { signal?: AbortSignal; steal?: boolean };
    return new Promise((resolve, reject) => {
      if (signal?.aborted) throw new DOMException('Aborted', 'AbortError');
      const request: Request = { callback, resolve, reject };
      const waiting = this.#waiting.get(name) ?? [];
      this.#waiting.set(name, waiting);
      signal?.addEventListener('abort', () => {
        const at = waiting.indexOf(request);
        if (at < 0) return; // it is held, and stays so
        waiting.splice(at, 1);
        reject(new DOMException('Aborted', 'AbortError'));
      });
      if (steal) {
        waiting.unshift(request);
        this.#held.get(name)?.reject(new DOMException('Stolen', 'AbortError'));
        this.#held.delete(name);
      } else waiting.push(request);
      queueMicrotask(() => this.#grant(name));
    });
  }

  #grant(name: string): void {
    if (this.#held.has(name)) return;
    const request = this.#waiting.get(name)?.shift();
    if (!request) return;
    this.#held.set(name, request);
    const release = (): void => {
      if (this.#held.get(name) !== request) return; // it was stolen
      this.#held.delete(name);
      this.#grant(name);
    };
    Promise.resolve().then(request.callback).then(request.resolve, request.reject).finally(release);
  }
}

/** Gives this process the locks of a browser. Returns what takes them away. */
export function installTabLocks(): () => void {
  const before = Object.getOwnPropertyDescriptor(globalThis, 'navigator');
  Object.defineProperty(globalThis, 'navigator', { value: { locks: new TabLocks() }, configurable: true });
  return () => {
    if (before) Object.defineProperty(globalThis, 'navigator', before);
    else delete (globalThis as { navigator?: unknown }).navigator;
  };
}
