/** What hooks and guards saw, in order, until a test asks for it. */
export class Probe {
  readonly events: unknown[] = [];
  readonly #waiting: (() => void)[] = [];

  note(event: unknown): void {
    this.events.push(event);
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** Resolves once so many things were noted, with all of them. */
  async seen(count: number): Promise<unknown[]> {
    while (this.events.length < count) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    return [...this.events];
  }
}
