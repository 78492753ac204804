import { filter, from, map, Observable, type Subscriber } from 'rxjs';
import type { Channel, ChannelSignals, PublicationOf } from '../client/channel.js';
import type { ClientState, StateDetails } from '../client/connector.js';
import type { RequestOptions } from '../client/client.js';
import type { Member } from '../client/presence.js';

/** What the observables need of a client: a `RealtimeClient` is one. */
export interface ObservableClient {
  readonly state: ClientState;
  on(event: 'state', listener: (state: ClientState, details: StateDetails) => unknown): () => void;
  requestStream<T>(event: string, data?: unknown, options?: RequestOptions): AsyncIterableIterator<T, undefined>;
}

/** How many observers of this module a channel has that it was subscribed for. */
const observers = new WeakMap<object, number>();

/**
 * The publications of a channel from now on. Subscribes to the channel; where it was not subscribed before, it is left
 * with the last of its observers here. Completes when the channel is left or the client closed, errors with what the hub
 * refuses or ends it with. Over reconnects it goes on: what could not be recovered is told by `signalOf(channel, 'lost')`.
 */
export function publicationsOf<Events extends object>(channel: Channel<Events>): Observable<PublicationOf<Events>> {
  return new Observable((subscriber) => {
    const leave = observe(channel);
    const stop = follow(channel[Symbol.asyncIterator](), subscriber);
    return () => {
      stop();
      leave();
    };
  });
}

/** The data of one event of a channel: see {@link publicationsOf}. */
export function eventOf<Events extends object, E extends keyof Events & string>(
  channel: Channel<Events>,
  event: E,
): Observable<Events[E]> {
  return publicationsOf(channel).pipe(
    filter((publication) => publication.event === event),
    map(({ data }) => data as Events[E]),
  );
}

/** What a channel tells about itself, such as `recovered` and `lost`. Subscribes to it as listening does, and never ends. */
export function signalOf<S extends keyof ChannelSignals, Events extends object>(
  channel: Channel<Events>,
  signal: S,
): Observable<ChannelSignals[S][0]> {
  return new Observable((subscriber) => {
    const leave = observe(channel);
    const remove = channel.on(signal, (...[value]: ChannelSignals[S]) => subscriber.next(value));
    return () => {
      remove();
      leave();
    };
  });
}

/** The members of a channel, whenever they change: see {@link signalOf}. */
export function membersOf<Events extends object>(channel: Channel<Events>): Observable<readonly Member[]> {
  return signalOf(channel, 'presence');
}

/** The state of a client: the present one, and each that follows. Connects nothing. */
export function stateOf(client: ObservableClient): Observable<ClientState> {
  return new Observable((subscriber) => {
    subscriber.next(client.state);
    return client.on('state', (state) => subscriber.next(state));
  });
}

/** The answer of a handler, or the values of its stream: asks when it is subscribed to, and cancels when that ends before. */
export function answersOf<T = unknown>(
  client: ObservableClient,
  event: string,
  data?: unknown,
  options?: RequestOptions,
): Observable<T> {
  return new Observable((subscriber) => follow(client.requestStream<T>(event, data, options), subscriber));
}

/** Gives values on; the returned function ends the iteration. */
function follow<T>(values: AsyncIterableIterator<T, undefined>, subscriber: Subscriber<T>): () => void {
  const inner = from(values).subscribe(subscriber);
  return () => {
    inner.unsubscribe();
    void values.return?.();
  };
}

/** Counts an observer of a channel that is subscribed for observers; the returned function leaves it with the last one. */
function observe(channel: Pick<Channel, 'state' | 'unsubscribe'>): () => void {
  const count = observers.get(channel);
  if (count === undefined && channel.state !== 'unsubscribed') return () => {};
  observers.set(channel, (count ?? 0) + 1);
  return () => {
    const left = (observers.get(channel) ?? 0) - 1;
    if (left > 0) observers.set(channel, left);
    else {
      observers.delete(channel);
      void channel.unsubscribe();
    }
  };
}
