import { seededRandom } from '../../e2e/support/random.js';

/** The seed of a fuzz run; `HOSTILE_SEED=7` repeats one, `HOSTILE_SEED=random` takes a new one. */
export function seedOf(environment: string | undefined): number {
  if (environment === undefined) return 20_260_401;
  return environment === 'random' ? Math.floor(Math.random() * 2 ** 32) : Number(environment);
}

/** Choices that a seed repeats. */
export class Random {
  readonly #next: () => number;

  constructor(seed: number) {
    this.#next = seededRandom(seed);
  }

  /** An integer from 0 to `below` − 1. */
  int(below: number): number {
    return Math.floor(this.#next() * below);
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return this.#next() < probability;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.int(list.length)]!;
  }

  /** Text of a few characters of an alphabet. */
  text(alphabet: string, maxLength: number): string {
    let text = '';
    for (let length = this.int(maxLength + 1); length > 0; length--) text += alphabet.charAt(this.int(alphabet.length));
    return text;
  }

  /** Other choices, which depend on these. */
  fork(): Random {
    return new Random(this.int(2 ** 32));
  }
}
