import type { Clock } from '../hub/ports/clock.js';

/** Texts to be taken once. */
export class MemoryOnces {
  private readonly texts = new Map<string, { text: string; until: number }>();

  constructor(private readonly clock: Clock) {}

  put(key: string, text: string, ttlMs: number): void {
    this.texts.set(key, { text, until: this.clock.now() + ttlMs });
  }

  take(key: string): string | undefined {
    const found = this.texts.get(key);
    this.texts.delete(key);
    return found !== undefined && found.until > this.clock.now() ? found.text : undefined;
  }

  /** Frees what nobody took in time. */
  sweep(): void {
    const now = this.clock.now();
    for (const [key, { until }] of this.texts) if (until <= now) this.texts.delete(key);
  }
}
