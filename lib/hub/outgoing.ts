import type { Log } from './log.js';
import { MAX_INBOX_BYTES, MAX_INBOX_ENTRIES, type InboxItem, type RecordStore } from './ports/records.js';

/** Whom it tells of what became of it. */
export interface OutgoingOwner {
  readonly id: string;
  /** The inbox has no room. */
  overflow(): void;
  /** Frames were lost, as the broker could not be told of them. */
  lost(items: readonly InboxItem[]): void;
}

/**
 * What a node has to tell the broker of one connection's record, in order: frames for its inbox, those of a turn at
 * once, and whatever changed of it.
 */
export class Outgoing {
  #items: InboxItem[] = [];
  #bytes = 0;
  #last: Promise<void> = Promise.resolve();

  constructor(
    private readonly store: RecordStore,
    private readonly owner: OutgoingOwner,
    private readonly log: Log,
  ) {}

  /** Adds a frame for the inbox. False: too much waits for the broker, and it was not taken. */
  add(item: InboxItem): boolean {
    const bytes = Buffer.byteLength(item.text);
    if (this.#items.length >= MAX_INBOX_ENTRIES || this.#bytes + bytes > MAX_INBOX_BYTES) return false;
    this.#bytes += bytes;
    if (this.#items.push(item) === 1) void this.#enqueue(() => this.#push());
    return true;
  }

  /** Takes a step after all that was added. Rejects with what it does; what follows goes on. */
  step(act: () => Promise<void>): Promise<void> {
    return this.#enqueue(act);
  }

  /** Takes a step whose failure is only logged. */
  attempt(what: string, act: () => Promise<unknown>): void {
    this.#enqueue(() => act().then(() => undefined)).catch((error: unknown) => {
      this.log.error(`The record of a connection could not be told ${what}`, error);
    });
  }

  /** Resolves once the broker has all that was added so far. */
  flushed(): Promise<void> {
    return this.#last;
  }

  #enqueue(act: () => Promise<void>): Promise<void> {
    const running = this.#last.then(act);
    this.#last = running.catch(() => undefined);
    return running;
  }

  async #push(): Promise<void> {
    const items = this.#items;
    this.#items = [];
    this.#bytes = 0;
    try {
      if ((await this.store.push(this.owner.id, items)) === 'full') this.owner.overflow();
    } catch (error) {
      this.log.error('Frames for a connection were lost: the broker could not be told of them', error);
      this.owner.lost(items);
    }
  }
}
