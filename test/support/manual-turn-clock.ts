import { ManualClock } from '../../lib/testing/manual-clock.js';

/** A clock whose turns end where a test says so, too: nothing at all happens by itself. */
export class ManualTurnClock extends ManualClock {
  #waiting: (() => void)[] = [];

  constructor(now = 1_700_000_000_000) {
    super(now);
  }

  override turn(fn: () => void): void {
    this.#waiting.push(fn);
  }

  /** Ends the turn: runs what waits for it, not what is added meanwhile. */
  runTurn(): void {
    const turns = this.#waiting;
    this.#waiting = [];
    for (const fn of turns) fn();
  }

  /** Ends turns and runs microtasks until nothing is left to do at this time. */
  override async settle(): Promise<void> {
    do {
      this.runTurn();
      await super.settle();
    } while (this.#waiting.length > 0);
  }
}
