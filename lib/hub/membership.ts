import type { Position } from '../protocol/position.js';
import type { ChannelDefinition } from './definition.js';
import type { StoredSubscription } from './ports/records.js';

/** A connection's place among the subscribers of a channel. */
export interface Membership {
  readonly channel: string;
  readonly channelJson: string;
  readonly definition: ChannelDefinition;
  /** The application subscribed the peer, without asking guards, hooks and grants. */
  readonly trusted: boolean;
  readonly state: 'authorising' | 'catching-up' | 'live' | 'ended';
  /** Hands over what has come so far, and tells where that ends. */
  settle(): Position;
  /** What it waited for may have happened. */
  advance(): void;
}

/**
 * The subscription of a connection with a record, between its links: nothing is written. A link goes on from where its
 * peer says that it is, else from where the subscription began.
 */
export class Parked implements Membership {
  readonly channelJson: string;
  state: 'live' | 'ended' = 'live';

  constructor(
    readonly definition: ChannelDefinition,
    readonly stored: Omit<StoredSubscription, 'slot'>,
    /** Its number in cursors, once that is known. */
    public slot: number | undefined,
  ) {
    this.channelJson = JSON.stringify(stored.channel);
  }

  get channel(): string {
    return this.stored.channel;
  }

  get trusted(): boolean {
    return this.stored.trusted;
  }

  settle(): Position {
    return this.stored.start;
  }

  advance(): void {
    return;
  }
}
