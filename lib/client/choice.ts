import type { Memory } from './memory.js';

/** A transport that has worked is left after every fourth failure in a row only. */
const PATIENCE = 4;
/** The first wait between tries of better transports; it doubles three times. */
const PROBE_MS = 30_000;

/** Which of the transports is used, by what was learnt about them. They stand in the order in which they are wanted. */
export class Choice {
  readonly #names: readonly string[];
  readonly #memory: Memory;
  /** The transport whose link opened last. */
  #proven: number | undefined;
  #probes = 0;
  /** The transport in use, or of the next attempt. */
  current = 0;

  constructor(names: readonly string[], memory: Memory) {
    this.#names = names;
    this.#memory = memory;
  }

  /** Begins with what worked last, if that is not long ago, else with the first. */
  begin(now: number): void {
    this.current = Math.max(0, this.#names.indexOf(this.#memory.recall(now) ?? ''));
    this.#proven = undefined;
    this.#probes = 0;
  }

  /** A link opened. */
  opened(now: number): void {
    this.#proven = this.current;
    this.#note(now);
  }

  /** A link ended that had lived for `ms`. One over the first transport that lasted ends the search. */
  lived(ms: number): void {
    if (ms >= PROBE_MS && this.current === 0) this.#probes = 0;
  }

  /** A link did not open or soon broke. After the last transport comes the first: where nothing opens, nothing was learnt. */
  failed(failures: number): void {
    const stays = this.#proven === this.current && failures % PATIENCE > 0;
    if (!stays) this.current = (this.current + 1) % this.#names.length;
  }

  /** The device is back: what failed meanwhile says nothing about a transport that has worked. */
  back(): void {
    this.current = this.#proven ?? this.current;
  }

  /** How long to wait before the next try of a better transport; what is in use is remembered meanwhile. */
  nextProbeMs(now: number, random: number): number {
    this.#note(now);
    return PROBE_MS * 2 ** Math.min(this.#probes++, 3) * (1 + random / 4);
  }

  /** The better transport to try now: each in its turn, the first one first. */
  get target(): number {
    return (this.#probes - 1) % this.current;
  }

  #note(now: number): void {
    this.#memory.note(this.current > 0 ? this.#names[this.current] : undefined, now);
  }
}
