import type { LostData, LostReason, SubscribeData } from '../../lib/protocol/frames.js';
import { formatPosition, parsePosition, type Position } from '../../lib/protocol/position.js';
import { epochOf, type ModelLog } from './model-log.js';

/** A broken invariant. */
export class Violation extends Error {
  override readonly name = 'Violation';
}

/** What may be withheld from a {@link Follower} without a word about a loss. */
export interface Withholding {
  /** The client instance whose own publications are withheld. */
  readonly client: string | undefined;
  /** Whether the channel's policy lets a slow reader miss publications, and this one was slow. */
  readonly mayDrop: boolean;
}

/**
 * One subscriber of a channel, over all its links: keeps its position as a client has to, and compares what it is
 * told with the model log. Throws a {@link Violation} where that does not fit.
 */
export class Follower {
  /** The last known position; `undefined` before the first answer. */
  position: Position | undefined;
  /** Whether an answer has come on this link, and no end since: only then may frames of the channel come. */
  on = false;
  /** What was told as lost, over all links. */
  losses = 0;
  /** What was told as lost because the log began anew, in this subscription. */
  epochLosses = 0;
  items = 0;
  skipped = 0;

  constructor(
    private readonly model: ModelLog,
    readonly channel: string,
    private readonly who: string,
    private readonly withholding: () => Withholding,
    /** How often the log was lost so far: bounds what may be told of it (P6). */
    private readonly wipes: () => number,
  ) {}

  /** An answer to `$subscribe`, asked with `since`. */
  answered(answer: SubscribeData, since: Position | undefined): void {
    const { position, recovered, until } = answer;
    if (!this.model.knows(this.channel, position)) this.#fail(`P2 is told ${position}, which never was`);
    if (this.on) {
      if (recovered !== undefined) this.#fail('W2 a second answer says "recovered"');
      if (position !== this.position) this.#fail(`P2 is told ${position} again, and stands at ${this.position}`);
      return;
    }
    this.on = true;
    this.epochLosses = 0;
    if ((since === undefined) !== (recovered === undefined)) this.#fail('W2 "recovered" does not fit "since"');
    if (recovered === true) {
      if (position !== since) this.#fail(`D3.2 recovers from ${position} instead of ${since}`);
      if (until === undefined || !this.model.knows(this.channel, until)) this.#fail(`D3.2 "until" is ${until}`);
    } else if (since !== undefined) {
      this.#lose(since, position);
    }
    this.position = position;
  }

  /** The subscription has ended. */
  ended(): void {
    this.on = false;
  }

  item(offset: number, tag: string, data: { n: number }): void {
    const from = this.#current();
    const position = formatPosition(epochOf(from), offset, tag);
    const entry = this.model.entry(this.channel, position);
    if (entry === undefined) return this.#fail(`P1 gets ${position}, which never was, at ${from}`);
    if (entry.prev !== from) this.#fail(`P1 gets ${position} after ${entry.prev}, and stands at ${from}`);
    if (entry.data.n !== data.n) this.#fail(`P1 gets ${data.n} at ${position}, where ${entry.data.n} is`);
    const { client } = this.withholding();
    if (client !== undefined && entry.exclude === client) this.#fail(`W4 gets its own ${position}`);
    this.position = position;
    this.items++;
  }

  marker(skipped: number, offset: number, tag: string): void {
    const from = this.#current();
    const to = formatPosition(epochOf(from), offset, tag);
    let at = to;
    let count = 0;
    const { client, mayDrop } = this.withholding();
    for (const [position, entry] of this.model.history(this.channel, to)) {
      if (position === from) break;
      count++;
      at = entry.prev;
      if (!mayDrop && (client === undefined || entry.exclude !== client)) {
        this.#fail(`W4 ${position} is skipped for no reason, at ${from}`);
      }
    }
    if (at !== from || count === 0) this.#fail(`P1 skips to ${to} from ${at}, and stands at ${from}`);
    if (count !== skipped) this.#fail(`W4 "skipped" is ${skipped} instead of ${count}`);
    this.position = to;
    this.skipped += skipped;
  }

  lost({ position, reason }: LostData): void {
    const from = this.#current();
    if (!this.model.knows(this.channel, position)) this.#fail(`P2 is told ${position}, which never was`);
    this.#lose(from, position, reason);
    this.position = position;
  }

  #lose(from: Position, to: Position, reason: LostReason = 'epoch'): void {
    this.losses++;
    const { client, mayDrop } = this.withholding();
    if (this.model.recoverable(this.channel, from) && !mayDrop && !this.#withheldBetween(from, client)) {
      this.#fail(`P4 is told of a loss at ${from} (live goes on after ${to}), which can be recovered from`);
    }
    const top = this.model.top(this.channel);
    if (reason !== 'epoch' || epochOf(from) === epochOf(top)) return;
    this.epochLosses++;
    if (this.epochLosses > 2 * this.wipes())
      this.#fail(`P6 is told ${this.epochLosses} times of ${this.wipes()} wipes`);
  }

  /** Whether what follows was the subscriber's own: its position is then further than it knows. */
  #withheldBetween(from: Position, client: string | undefined): boolean {
    if (client === undefined) return false;
    return this.model.successors(this.channel, from).some(({ exclude }) => exclude === client);
  }

  #current(): Position {
    if (!this.on || this.position === undefined) return this.#fail('D3.4 gets a frame of a channel that it is not in');
    return this.position;
  }

  #fail(what: string): never {
    throw new Violation(`${this.who} in ${this.channel} ${what}`);
  }
}

/** Whether a text is a position. */
export function isPosition(text: unknown): text is Position {
  return parsePosition(text) !== undefined;
}
