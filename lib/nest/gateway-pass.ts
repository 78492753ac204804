import { HOOK_PASS, type GatewayHook, type HookPass } from './gateway-hooks.js';

/** Calls the hooks of one kind that Nest reaches during a pass over the gateways, and waits for all of them. */
export class GatewayPass implements HookPass {
  readonly [HOOK_PASS] = true;
  readonly #running: Promise<unknown>[] = [];
  /** A gateway of a class that inherits the hook may call it again, by `super`. */
  readonly #gateways = new Set<object>();
  #resume: (() => void) | undefined;

  /**
   * @param runs The hook that this pass runs; a call of the other one is none of Nest's.
   * @param suppresses Whether `handleConnection` is not to run, as it ran before.
   */
  constructor(
    private readonly runs: GatewayHook | undefined,
    private readonly suppresses: boolean,
    /** What is called in place of the hook. */
    private readonly instead?: (gateway: object) => unknown,
  ) {}

  hook(name: GatewayHook, gateway: object, call: () => unknown): unknown {
    if (name === this.runs && !this.#gateways.has(gateway)) {
      this.#gateways.add(gateway);
      const { instead } = this;
      this.#report(instead === undefined ? call : () => instead(gateway));
      return undefined;
    }
    return name === 'handleConnection' && this.suppresses ? undefined : call();
  }

  failed(error: unknown): void {
    this.#running.push(Promise.reject(asError(error)));
    this.#running.at(-1)!.catch(() => undefined);
    this.#resume?.();
  }

  /** Resolves when all hooks have; rejects, then too, with what the first of them threw. */
  async settled(later: number): Promise<void> {
    // Request-scoped gateways are made first, so their hooks report later.
    const expected = this.#running.length + later;
    while (this.#running.length < expected) await new Promise<void>((resolve) => (this.#resume = resolve));
    for (const outcome of await Promise.allSettled(this.#running)) {
      if (outcome.status === 'rejected') throw outcome.reason;
    }
  }

  #report(call: () => unknown): void {
    try {
      const result = call();
      const running = Promise.resolve(result);
      running.catch(() => undefined); // told by settled()
      this.#running.push(running);
      this.#resume?.();
    } catch (error) {
      this.failed(error);
    }
  }
}

/** What was thrown, as it was: hooks may throw anything. */
function asError(error: unknown): Error {
  return error as Error;
}
