import type { LostData, SubscribeData } from '../protocol/frames.js';
import { formatPosition, type Position } from '../protocol/position.js';
import type { Source } from './outbox.js';
import type { RunItem } from './ports/link.js';
import { Batch } from './batch.js';
import { fetchReferred, isReference } from './payload.js';

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

/**
 * A subscription of this process itself: behind `stream()` and `events()`. Takes what comes at once; what a reference
 * stands for is fetched first, and what follows waits for it.
 */
export class Reader implements Sink {
  readonly client = undefined;
  #fetching: Promise<void> | undefined;
  #subscription: Subscription | undefined;
  #over = false;

  constructor(
    private readonly subscriptions: Subscriptions,
    private readonly events: ReaderEvents,
  ) {}

  get hasRoom(): boolean {
    return this.#fetching === undefined;
  }

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
    const whole = this.#fetching === undefined && !batch.items.some(({ data }) => isReference(data));
    if (whole && !this.#over) this.events.publications(batch);
    else if (!whole) this.#inOrder(() => this.#fetch(batch));
  }

  event(_source: Source, event: '$lost' | '$presence', data: unknown): void {
    if (event !== '$lost' || this.#over) return;
    if (this.#fetching === undefined) this.events.lost(data as LostData);
    else this.#inOrder(() => this.events.lost(data as LostData));
  }

  /** Nothing is withheld from a reader. */
  marker(): void {
    return;
  }

  /** Gives the publications of a batch, whole. One that is no longer in the log is told as lost. */
  async #fetch(batch: Batch): Promise<void> {
    let ready: RunItem[] = [];
    const give = (): void => {
      if (ready.length > 0) this.events.publications(new Batch(batch, batch.epoch, ready));
      ready = [];
    };
    for (const item of batch.items) {
      if (!isReference(item.data)) {
        ready.push(item);
        continue;
      }
      give(); // no more than one large publication is held
      const found = await fetchReferred(item.data, (since, limit) => this.#subscription!.of.read(since, limit));
      if (this.#over) return;
      if (found !== undefined) {
        ready.push({ ...item, data: found.data });
        give();
      } else {
        const position = formatPosition(batch.epoch, item.offset, item.tag);
        this.events.lost({ position, reason: 'trimmed' });
      }
    }
    give();
  }

  /** Does something once all is given that is being fetched. */
  #inOrder(act: () => Promise<void> | void): void {
    const before = this.#fetching ?? Promise.resolve();
    const fetching = before
      .then(() => (this.#over ? undefined : act()))
      .catch((error: unknown) => this.end(error))
      .finally(() => {
        if (this.#fetching !== fetching) return;
        this.#fetching = undefined;
        this.#subscription?.advance();
      });
    this.#fetching = fetching;
  }
}
