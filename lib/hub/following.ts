import { isRealtimeException } from '../protocol/errors.js';
import type { LostReason, SubscribeData } from '../protocol/frames.js';
import { parsePosition, type Position } from '../protocol/position.js';
import type { Batch } from './batch.js';
import { mapBounded } from './map-bounded.js';
import type { Source } from './outbox.js';
import type { Sink, Subscription } from './subscription.js';
import type { Subscriptions } from './subscriptions.js';

/** Channels that are prepared at once. */
const CONCURRENCY = 8;

/** A peer's place in a channel: another object where it has left the channel and come again. */
export interface FollowedPlace {
  /** Its number in cursors, once that is known. */
  readonly slot: number | undefined;
}

/** A channel that a link follows. */
export interface Followed {
  readonly channel: string;
  /** Where the peer is; `undefined`: live begins now. */
  readonly since: Position | undefined;
  readonly place: FollowedPlace;
}

/** A link of a peer whose subscriptions outlive it: follows their channels from where the peer is. */
export abstract class Following implements Sink {
  protected readonly followed = new Map<string, { subscription: Subscription; place: FollowedPlace }>();
  readonly #wanted = new Map<string, FollowedPlace>();

  constructor(private readonly subscriptions: Subscriptions) {}

  abstract readonly client: string | undefined;
  abstract readonly hasRoom: boolean;
  /** Whether it is over, and tells nothing any more. */
  abstract readonly over: boolean;
  abstract publications(source: Source, batch: Batch): void;
  abstract event(source: Source, event: '$lost' | '$presence', data: unknown): void;
  abstract marker(source: Source, epoch: string, offset: number, tag: string): void;

  /** Follows channels; those that it follows already are left alone. Rejects with `broker_unavailable`. */
  async follow(channels: readonly Followed[]): Promise<void> {
    const added = channels.filter(({ channel, place }) => this.#wanted.get(channel) !== place);
    for (const { channel, place } of added) {
      this.#leave(channel);
      this.#wanted.set(channel, place);
    }
    const begins = await mapBounded(added, CONCURRENCY, async ({ channel, since }) => {
      try {
        return await this.subscriptions.attach(channel, since, this);
      } catch (error) {
        // A node of an older or newer version may not know the channel.
        if (isRealtimeException(error) && error.code === 'unknown_channel') return undefined;
        throw error;
      }
    });
    begins.forEach((begin, i) => {
      const { channel, since, place } = added[i]!;
      if (begin === undefined || this.over || this.#wanted.get(channel) !== place) return;
      const [subscription, answer] = begin();
      this.followed.set(channel, { subscription, place });
      this.began(subscription, answer);
      const { position, recovered } = answer;
      if (recovered === false) this.event(subscription, '$lost', { position, reason: reasonOf(since!, position) });
    });
    for (const { channel } of added) this.followed.get(channel)?.subscription.advance();
  }

  /** Leaves the channels that are not among these. */
  keep(channels: ReadonlySet<string>): void {
    for (const channel of this.#wanted.keys()) if (!channels.has(channel)) this.#leave(channel);
  }

  /** A channel begins to be followed; its frames come behind. */
  protected began(_subscription: Subscription, _answer: SubscribeData): void {}

  /** Leaves all channels. */
  protected leaveAll(): void {
    for (const channel of this.#wanted.keys()) this.#leave(channel);
  }

  #leave(channel: string): void {
    this.#wanted.delete(channel);
    const followed = this.followed.get(channel);
    if (followed === undefined) return;
    this.followed.delete(channel);
    this.subscriptions.detach(followed.subscription);
  }
}

/** Why a position cannot be recovered from, as far as the top tells. */
function reasonOf(since: Position, top: Position): LostReason {
  const from = parsePosition(since);
  const to = parsePosition(top)!;
  if (from?.epoch !== to.epoch) return 'epoch';
  return from.offset >= to.offset ? 'diverged' : 'trimmed';
}
