import type { Clock } from '../hub/ports/clock.js';
import {
  MAX_REVOCATIONS,
  mergeRevocations,
  revocationKey,
  tooManyRevocations,
  type Revocation,
} from '../hub/ports/revocation.js';

/** What is revoked, until its time is over. */
export class MemoryRevocations {
  private readonly entries = new Map<string, Revocation>();

  constructor(private readonly clock: Clock) {}

  /** Writes all, or throws and writes none. */
  write(revocations: readonly Revocation[]): void {
    this.forget();
    const keys = new Set(revocations.map(revocationKey));
    const added = [...keys].filter((key) => !this.entries.has(key)).length;
    if (this.entries.size + added > MAX_REVOCATIONS) throw tooManyRevocations();
    for (const revocation of revocations) {
      const key = revocationKey(revocation);
      this.entries.set(key, mergeRevocations(this.entries.get(key), revocation));
    }
  }

  all(): Revocation[] {
    this.forget();
    return [...this.entries.values()];
  }

  /** Loses all, as a broker that restarts without its data does. */
  wipe(): void {
    this.entries.clear();
  }

  private forget(): void {
    const now = this.clock.now();
    for (const [key, { until }] of this.entries) if (until <= now) this.entries.delete(key);
  }
}
