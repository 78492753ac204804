/** What the score board shows. */
export interface Score {
  readonly home: { readonly name: string; readonly points: number };
  readonly away: { readonly name: string; readonly points: number };
  /** 1 to 4. */
  readonly quarter: number;
  /** What is left of the quarter, `m:ss`. */
  readonly clock: string;
  readonly over: boolean;
  /** What happened last. */
  readonly play: string;
}

const TEAMS = ['Injectables', 'Observables'] as const;
const QUARTER_SECONDS = 720;
const STEPS_AFTER_THE_END = 5;
const PLAYS: readonly (readonly [points: number, likelihood: number, text: string])[] = [
  [3, 0.14, 'three from the corner'],
  [2, 0.26, 'fast break'],
  [2, 0.4, 'lay-up'],
  [1, 0.5, 'free throw'],
  [0, 0.62, 'shot blocked'],
  [0, 0.74, 'turnover'],
  [0, 1, 'rebound'],
];

/** A game that plays itself, again and again. */
export class Basketball {
  #points = [0, 0];
  #elapsedSeconds = 0;
  #stepsAfterTheEnd = 0;

  /** Goes on from a score, which another process may have published. */
  goOnFrom({ home, away, quarter, clock }: Score): void {
    const [minutes, seconds] = clock.split(':').map(Number);
    this.#points = [home.points, away.points];
    this.#elapsedSeconds = quarter * QUARTER_SECONDS - minutes! * 60 - seconds!;
    this.#stepsAfterTheEnd = 0;
  }

  next(random: () => number = Math.random): Score {
    const end = 4 * QUARTER_SECONDS;
    if (this.#elapsedSeconds >= end && ++this.#stepsAfterTheEnd > STEPS_AFTER_THE_END) this.#begin();
    if (this.#elapsedSeconds >= end) return this.#score('Final whistle');

    this.#elapsedSeconds = Math.min(end, this.#elapsedSeconds + 10 + Math.round(random() * 20));
    const team = random() < 0.5 ? 0 : 1;
    const luck = random();
    const [points, , text] = PLAYS.find(([, likelihood]) => luck <= likelihood)!;
    this.#points[team]! += points;
    return this.#score(`${TEAMS[team]}: ${text}`);
  }

  #begin(): void {
    this.#points = [0, 0];
    this.#elapsedSeconds = 0;
    this.#stepsAfterTheEnd = 0;
  }

  #score(play: string): Score {
    const quarter = Math.min(4, 1 + Math.floor(this.#elapsedSeconds / QUARTER_SECONDS));
    const left = quarter * QUARTER_SECONDS - this.#elapsedSeconds;
    return {
      home: { name: TEAMS[0], points: this.#points[0]! },
      away: { name: TEAMS[1], points: this.#points[1]! },
      quarter,
      clock: `${Math.floor(left / 60)}:${String(left % 60).padStart(2, '0')}`,
      over: this.#elapsedSeconds >= 4 * QUARTER_SECONDS,
      play,
    };
  }
}
