import type { Connection } from './connection.js';
import type { Hooks } from './hooks.js';
import type { Records } from './records.js';
import type { HubSettings } from './settings.js';

/** What goes away. */
export interface DrainHost {
  readonly settings: HubSettings;
  readonly connections: ReadonlyMap<string, Connection>;
  readonly hooks: Hooks;
  /** Whether peers are let in. */
  readonly accepting: boolean;
  /** Lets nobody in any more. False: it is over already. */
  refuse(): boolean;
  /** `undefined` before the hub is open. */
  recorded(): Records | undefined;
}

/** How a node goes away: not ready, then for nobody new, then without peers and hooks that run. */
export class Drain {
  readonly #listeners = new Set<() => void>();
  #drained: Promise<void> | undefined;
  #refusing = false;

  constructor(private readonly host: DrainHost) {}

  /** Whether it has begun: the node is not ready. */
  get begun(): boolean {
    return this.#drained !== undefined;
  }

  /** Calls a function when nobody is let in any more, at once if so; the returned function forgets it. */
  on(act: () => void): () => void {
    if (this.#refusing) {
      act();
      return () => undefined;
    }
    this.#listeners.add(act);
    return () => void this.#listeners.delete(act);
  }

  /** Begins, if it has not; resolves at the end. */
  run(): Promise<void> {
    return (this.#drained ??= this.#run());
  }

  async #run(): Promise<void> {
    const { settings, connections, hooks } = this.host;
    const { readinessMs, windowMs, timeoutMs } = settings.drain;
    if (this.host.accepting && readinessMs > 0) {
      await new Promise<void>((resolve) => settings.clock.after(readinessMs, resolve));
    }
    if (!this.host.refuse()) return;
    this.#refusing = true;
    for (const act of this.#listeners) act();
    this.#listeners.clear();
    const delayMs = spread(windowMs, connections.size);
    this.host.recorded()?.drain(delayMs);
    for (const connection of connections.values()) {
      if (!connection.recorded) connection.fail('draining', delayMs());
    }
    if (await hooks.quiet(timeoutMs)) return;
    for (const connection of connections.values()) connection.terminate();
  }
}

/** Times of so many peers to come back, one for each call: at random, and evenly over a window. */
function spread(windowMs: number, count: number): () => number {
  let next = 0;
  return () => Math.floor((windowMs * ((next++ % count) + Math.random())) / count);
}
