import type { SubscribeData } from '../protocol/frames.js';
import { formatPosition, type Position } from '../protocol/position.js';

/** The epoch of a position that the hub told: it is not checked again here. */
export function epochOf(position: Position): string {
  return position.split('-')[0]!;
}

function offsetOf(position: Position): number {
  return Number(position.split('-')[1]);
}

/** What an item or a marker is to a subscription: the next one, one that was seen already, or one after a gap. */
export type Step = 'next' | 'repeated' | 'gap';

/** Where one subscription stands, and how far a recovery has come. */
export class Tracker {
  #epoch = '';
  #offset = 0;
  #position: Position | undefined;
  /** The offset where the recovery that runs will be complete. */
  #until: number | undefined;
  #recovered = 0;

  get position(): Position | undefined {
    return this.#position;
  }

  /** Takes a position that the hub told; a recovery that runs is over. */
  moveTo(position: Position): void {
    this.#epoch = epochOf(position);
    this.#offset = offsetOf(position);
    this.#position = position;
    this.#until = undefined;
  }

  /** Forgets the position: the next subscription starts anew. */
  reset(): void {
    this.#position = undefined;
    this.#until = undefined;
  }

  /** Takes the answer of a subscription; false if what was missed is lost. */
  begin(answer: SubscribeData): boolean {
    const before = this.#position;
    this.moveTo(answer.position);
    const recovered = answer.recovered ?? before === answer.position;
    if (before === undefined || !recovered) return before === undefined;
    this.#until = offsetOf(answer.until ?? answer.position);
    this.#recovered = 0;
    return true;
  }

  /** Takes an item, or a marker for `skipped` items up to `offset`. Moves on only if it is the next one. */
  take(offset: number, tag: string, skipped?: number): Step {
    if (offset <= this.#offset) return 'repeated';
    if (offset - (skipped ?? 1) > this.#offset) return 'gap';
    this.#offset = offset;
    this.#position = formatPosition(this.#epoch, offset, tag);
    if (skipped === undefined) this.#recovered++;
    return 'next';
  }

  /** The number of publications recovered, once, when the recovery has become complete. */
  completed(): number | undefined {
    if (this.#until === undefined || this.#offset < this.#until) return undefined;
    this.#until = undefined;
    return this.#recovered;
  }
}
