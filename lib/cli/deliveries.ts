/** Publications of this process and their deliveries, matched by position as they come, in whichever order. */
export class Deliveries {
  /** How long deliveries took, ms, in the order in which they were matched. */
  readonly delays: number[] = [];
  /** When each position was published. */
  readonly #sent = new Map<string, number>();
  /** When each position came whose publication is not known yet. */
  readonly #early = new Map<string, number[]>();
  #awaited = Infinity;
  #wake: () => void = () => undefined;

  /** How many publications were made. */
  get published(): number {
    return this.#sent.size;
  }

  /** A publication has its position. */
  sent(position: string, at: number): void {
    this.#sent.set(position, at);
    for (const time of this.#early.get(position) ?? []) this.#add(time - at);
    this.#early.delete(position);
  }

  /** A position came, at whichever client. */
  arrived(position: string, at: number): void {
    const from = this.#sent.get(position);
    if (from !== undefined) {
      this.#add(at - from);
      return;
    }
    const times = this.#early.get(position);
    if (times === undefined) this.#early.set(position, [at]);
    else times.push(at);
  }

  /** Resolves once so many were matched. */
  reach(count: number): Promise<void> {
    if (this.delays.length >= count) return Promise.resolve();
    this.#awaited = count;
    return new Promise((resolve) => (this.#wake = resolve));
  }

  #add(delay: number): void {
    if (this.delays.push(delay) >= this.#awaited) this.#wake();
  }
}
