/** The offsets that a peer saw, in the order in which they came, and whatever it was told of losses. */
export class OffsetLog {
  readonly offsets: number[] = [];
  readonly losses: unknown[] = [];
  readonly #waiting = new Map<number, () => void>();

  see(offset: number): void {
    this.offsets.push(offset);
    this.#waiting.get(offset)?.();
  }

  lose(what: unknown): void {
    this.losses.push(what);
  }

  /** Resolves once an offset was seen. */
  async reached(offset: number): Promise<void> {
    if (!this.offsets.includes(offset)) await new Promise<void>((resolve) => this.#waiting.set(offset, resolve));
  }
}
