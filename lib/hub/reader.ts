import type { LostData, SubscribeData } from '../protocol/frames.js';
import type { Position } from '../protocol/position.js';
import type { Batch } from './batch.js';
import type { Source } from './outbox.js';
import type { Sink, Subscription } from './subscription.js';
import type { Subscriptions } from './subscriptions.js';

/** What a reader inside the process is told, in order; nothing after `ended`. */
export interface ReaderEvents {
  /** The subscription began. */
  started(answer: SubscribeData): void;
  /** Publications of one turn, without gap to those before. */
  publications(batch: Batch): void;
  lost(data: LostData): void;
  /** The hub goes away, or the subscription failed with an error. */
  ended(error?: unknown): void;
}

/** A subscription of this process itself: behind `stream()` and `events()`. Takes what comes at once. */
export class Reader implements Sink {
  readonly client = undefined;
  readonly hasRoom = true;
  #subscription: Subscription | undefined;
  #over = false;

  constructor(
    private readonly subscriptions: Subscriptions,
    private readonly events: ReaderEvents,
  ) {}

  /** Starts to read. What goes wrong is told by `ended`. */
  async start(channel: string, since: Position | undefined): Promise<void> {
    try {
      const begin = await this.subscriptions.attach(channel, since, this);
      if (this.#over) return;
      const [subscription, answer] = begin();
      this.#subscription = subscription;
      this.events.started(answer);
      subscription.advance();
    } catch (error) {
      this.end(error);
    }
  }

  /** Ends the reading; tells `ended` once. */
  end(error?: unknown): void {
    if (this.#over) return;
    this.stop();
    this.events.ended(error);
  }

  /** Ends the reading without a word. */
  stop(): void {
    this.#over = true;
    if (this.#subscription !== undefined) this.subscriptions.detach(this.#subscription);
    this.#subscription = undefined;
  }

  publications(source: Source, batch: Batch): void {
    source.written = batch.last;
    if (!this.#over) this.events.publications(batch);
  }

  event(_source: Source, event: '$lost' | '$presence', data: unknown): void {
    if (event === '$lost' && !this.#over) this.events.lost(data as LostData);
  }

  /** Nothing is withheld from a reader. */
  marker(): void {
    return;
  }
}
