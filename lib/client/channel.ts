import type { CodedException } from '../protocol/errors.js';
import type { LostReason, PresenceMember, SubscribeData, UnsubscribedData } from '../protocol/frames.js';
import type { Position } from '../protocol/position.js';
import type { PresenceSignals } from './presence.js';

/** A publication of a channel. */
export interface Publication<Event extends string = string, Data = unknown> {
  readonly channel: string;
  readonly event: Event;
  readonly data: Data;
  /** Counts the channel's publications from 1. */
  readonly offset: number;
  readonly tag: string;
  /** The place right after this publication: what `history({ since })` takes. */
  readonly position: Position;
}

/** The publications of a channel with the given events. */
export type PublicationOf<Events extends object> = {
  [Event in keyof Events & string]: Publication<Event, Events[Event]>;
}[keyof Events & string];

/** Every missed publication was delivered: `count` of them. */
export interface Recovered {
  readonly position: Position;
  readonly count: number;
}

/** Publications after `since` were lost; what follows starts after `position`. */
export interface Lost {
  readonly since: Position;
  readonly position: Position;
  /**
   * The hub's reason; `unrecovered`: it could not recover from the position told after a reconnect; `gap`: a
   * publication came that does not follow the last one (a defect), and the channel subscribes anew from `since`.
   */
  readonly reason: LostReason | 'unrecovered' | 'gap';
}

/** What a channel tells about itself, as opposed to its publications. */
export interface ChannelSignals extends PresenceSignals {
  /** The subscription is live: at first and after each reconnect. */
  subscribed: [answer: SubscribeData];
  /** The hub ended the subscription; with `resubscribe: true` the client is about to subscribe again. */
  unsubscribed: [data: UnsubscribedData];
  /** After a reconnect nothing was missed, or all of it was delivered by now. */
  recovered: [recovered: Recovered];
  /** Publications were lost. */
  lost: [lost: Lost];
  /** The hub withheld publications from this subscriber: own ones, conflated or dropped ones. */
  skipped: [skipped: { readonly count: number; readonly position: Position }];
  /** The channel could not be subscribed, or its members could not be asked for: with `receiveOnly` over SSE, once for each link. */
  error: [error: CodedException];
}

/** `unsubscribed`: not wanted, refused, or ended; `subscribing`: wanted, not live at this moment; `subscribed`: live. */
export type ChannelState = 'unsubscribed' | 'subscribing' | 'subscribed';

/** How a publication is made. */
export interface PublishOptions {
  /**
   * `false`: this client does not receive the publication; it is told as `skipped` instead.
   * @defaultValue true
   */
  echo?: boolean;
  /**
   * Publishing twice with one key makes one publication, within five minutes. At most 128 characters.
   * @defaultValue a random key for each call, so that a publish that is sent again after a reconnect counts once
   */
  key?: string;
  /** Rejects with `outcome_unknown` when no answer came in time, counted from sending. Milliseconds. @defaultValue `requestTimeoutMs` */
  timeoutMs?: number;
}

/** Which part of the history is read. */
export interface HistoryOptions {
  /** Publications after this position; a position that is no longer stored rejects with `position_lost`. */
  since?: Position;
  /** At most so many publications. @defaultValue 100 */
  limit?: number;
  /** Reads from the newest to the oldest. */
  reverse?: boolean;
}

/**
 * One channel: `client.channel(name)`. The first listener, iteration or `subscribe()` subscribes, `unsubscribe()` ends.
 * Between two publications nothing is missing unless `lost` was told, over any number of reconnects.
 *
 * @typeParam Events - the data of each event, e.g. `{ message: { text: string } }`
 */
export interface Channel<Events extends object = Record<string, unknown>> extends AsyncIterable<PublicationOf<Events>> {
  readonly name: string;
  readonly state: ChannelState;
  /** Where the channel stands; `undefined` before the first subscription. */
  readonly position: Position | undefined;

  /** Listens to what the channel tells about itself; these names win over events of the same name. Returns what removes it. */
  on<S extends keyof ChannelSignals>(signal: S, listener: (...args: ChannelSignals[S]) => unknown): () => void;
  /** Listens to every publication. */
  on(
    event: '*',
    listener: (data: Events[keyof Events & string], publication: PublicationOf<Events>) => unknown,
  ): () => void;
  /** Listens to the publications of one event. */
  on<E extends Exclude<keyof Events & string, keyof ChannelSignals>>(
    event: E,
    listener: (data: Events[E], publication: Publication<E, Events[E]>) => unknown,
  ): () => void;

  /**
   * Subscribes, and resolves when live. Rejects with the hub's code when refused (`forbidden`, `unknown_channel`,
   * `too_many_channels`, …) and with `gone` when the client is closed; both are told as `error` too. Failures that pass
   * (`broker_unavailable`, `rate_limited`) are tried again.
   */
  subscribe(): Promise<SubscribeData>;
  /** Ends the subscription: iterations end, the position is forgotten, listeners stay. */
  unsubscribe(): Promise<void>;

  /**
   * Publishes, and resolves with the position, `null` if the hub's hook published nothing. Waits for a link where there
   * is none (bounded by `queue`, then `rate_limited`) and is sent again after a reconnect, with the same key.
   * Rejects with the hub's code, `not_available` where nothing can be sent (see `RealtimeClient`), `frame_too_large`, `gone` when
   * the client is closed.
   */
  publish<E extends keyof Events & string>(
    event: E,
    data: Events[E],
    options?: PublishOptions,
  ): Promise<Position | null>;
  /** Reads the history, oldest first; the channel need not be subscribed. */
  history(options?: HistoryOptions): Promise<{ position: Position; publications: PublicationOf<Events>[] }>;
  /**
   * Asks for the members. While the channel is subscribed they are followed from then on, as by a listener of
   * `presence`; without a subscription the answer is all there is. Rejects with `not_available` for channels without
   * presence, and where nothing can be sent.
   */
  presence(): Promise<PresenceMember[]>;

  /**
   * Iterates over the publications from now on, until the channel is left or the client closed by `close()`. Throws
   * what the hub refuses or ends the channel with, and `gone` where the client is closed already. At most 1,000 wait
   * for a slow loop: one more ends it with `slow_consumer`.
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<PublicationOf<Events>, undefined>;
}
