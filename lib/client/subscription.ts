import { peerRow, CodedException, type ErrorBody } from '../protocol/errors.js';
import type { LostData, PresenceAnswer, PresenceData, SubscribeData, UnsubscribedData } from '../protocol/frames.js';
import { formatPosition, type Position } from '../protocol/position.js';
import { AsyncQueue } from './async-queue.js';
import type { Channel, ChannelSignals, ChannelState, HistoryOptions, Publication, PublishOptions } from './channel.js';
import type { ClientClock } from './clock.js';
import { makeDeferred, type Deferred } from './deferred.js';
import { Emitter } from './emitter.js';
import { errorOf, exceptionOf } from './failures.js';
import { PresenceView } from './presence.js';
import type { CallOptions } from './requests.js';
import { epochOf, Tracker } from './tracker.js';
import type { IncomingFrame } from './transport.js';

/** What a subscription needs of its client. */
export interface SubscriptionHost {
  readonly clock: ClientClock;
  /** Whether a link is open: if not, `$resume` carries the subscription. */
  readonly isOpen: () => boolean;
  /** Connects where nothing does so yet; throws when the client is closed. */
  readonly use: () => void;
  readonly call: (event: string, data: unknown, options?: CallOptions) => Promise<unknown>;
  readonly makeKey: () => string;
  readonly retryDelayMs: (failures: number) => number;
  /** The data of a publication that travels as a reference. Tries again what passes, until `isOver`. */
  readonly fetchPayload: (channel: string, since: Position, isOver: () => boolean) => Promise<unknown>;
  readonly onError: (error: unknown) => void;
}

const SIGNALS: ReadonlySet<string> = new Set<keyof ChannelSignals>([
  'subscribed',
  'unsubscribed',
  'recovered',
  'lost',
  'skipped',
  'presence',
  'join',
  'leave',
  'error',
]);
const MAX_WAITING_PUBLICATIONS = 1_000;

/** The implementation of {@link Channel}: one subscription over all links of the client. */
export class Subscription implements Channel {
  readonly #host: SubscriptionHost;
  readonly #signals: Emitter<ChannelSignals>;
  readonly #events: Emitter<Record<string, [data: unknown, publication: Publication]>>;
  readonly #iterations = new Set<AsyncQueue<Publication>>();
  readonly #tracker = new Tracker();
  readonly #presence: PresenceView;
  #answer: SubscribeData | undefined;
  #wanted = false;
  #live = false;
  /** Counts the tries to subscribe, so that the answer to an older one is ignored. */
  #turn = 0;
  #failures = 0;
  #ready: Deferred<SubscribeData> | undefined;
  #cancelRetry: (() => void) | undefined;
  /** Takes what is to be told after the data that is being fetched. */
  #later: ((act: () => void) => void) | undefined;

  constructor(
    readonly name: string,
    host: SubscriptionHost,
  ) {
    this.#host = host;
    this.#signals = new Emitter(host.onError);
    this.#events = new Emitter(host.onError);
    this.#presence = new PresenceView({
      clock: host.clock,
      ask: () => host.call('$presence', { channel: name }) as Promise<PresenceAnswer>,
      tell: (signal, value) => this.#signals.emit(signal, ...([value] as ChannelSignals[typeof signal])),
      onError: (error) => {
        // Lost with its link: it is asked again over the next one.
        if ((error as CodedException).code !== 'outcome_unknown') this.#report(error);
      },
    });
  }

  get state(): ChannelState {
    return this.#live ? 'subscribed' : this.#wanted ? 'subscribing' : 'unsubscribed';
  }

  get position(): Position | undefined {
    return this.#tracker.position;
  }

  /** Whether the client's next link is to carry this channel. */
  get wanted(): boolean {
    return this.#wanted;
  }

  /** How long the hub keeps what this channel misses; Infinity where it keeps nothing anyway. */
  get windowMs(): number {
    return this.#answer?.windowMs || Infinity;
  }

  on(name: string, listener: (...args: never[]) => unknown): () => void {
    const emitter = (SIGNALS.has(name) ? this.#signals : this.#events) as Emitter<Record<string, never[]>>;
    const remove = emitter.on(name, listener);
    if (name === 'presence' || name === 'join' || name === 'leave') this.#presence.follow(this.#live);
    this.#subscribeQuietly();
    return remove;
  }

  subscribe(): Promise<SubscribeData> {
    if (this.#live && this.#answer) return Promise.resolve(this.#answer);
    const { promise } = (this.#ready ??= makeDeferred());
    if (!this.#wanted) {
      try {
        this.#host.use();
        this.#wanted = true;
        this.ask();
      } catch (error) {
        this.#fail(error as CodedException);
      }
    }
    return promise;
  }

  async unsubscribe(): Promise<void> {
    const told = this.#wanted && this.#host.isOpen();
    this.close(new CodedException('gone'), false);
    this.#tracker.reset();
    // With the link the subscription is gone too.
    if (told) await this.#host.call('$unsubscribe', { channel: this.name }).catch(() => {});
  }

  async publish(event: string, data: unknown, options: PublishOptions = {}): Promise<Position | null> {
    const { echo, key = this.#host.makeKey(), timeoutMs } = options;
    const frame = { channel: this.name, event, data, key, echo };
    const answer = await this.#host.call('$publish', frame, { repeatable: true, timeoutMs });
    return (answer as { position: Position } | null)?.position ?? null;
  }

  async history(options: HistoryOptions = {}): Promise<{ position: Position; publications: Publication[] }> {
    const data = { channel: this.name, ...options };
    const answer = (await this.#host.call('$history', data, { repeatable: true })) as {
      position: Position;
      publications: Omit<Publication, 'channel' | 'position'>[];
    };
    const epoch = epochOf(answer.position);
    const publications = answer.publications.map((item) => ({
      ...item,
      channel: this.name,
      position: formatPosition(epoch, item.offset, item.tag),
    }));
    return { position: answer.position, publications };
  }

  async presence(): Promise<PresenceAnswer['users']> {
    const answer = (await this.#host.call('$presence', { channel: this.name }, { repeatable: true })) as PresenceAnswer;
    this.#presence.follow(false);
    this.#presence.take(answer);
    return answer.users;
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<Publication, undefined> {
    const queue = new AsyncQueue<Publication>(MAX_WAITING_PUBLICATIONS, () => {
      this.#iterations.delete(queue);
    });
    this.#iterations.add(queue);
    this.#subscribeQuietly();
    return queue;
  }

  /** Sends `$subscribe` over the link that is open. */
  ask(): void {
    this.#cancelRetry?.();
    if (!this.#wanted || !this.#host.isOpen()) return;
    const turn = ++this.#turn;
    const counts = () => turn === this.#turn;
    // Taken at once, not when a promise is settled: publications may follow in the same turn.
    const onValue = (answer: unknown) => counts() && this.#subscribed(answer as SubscribeData);
    this.#host
      .call('$subscribe', { channel: this.name, since: this.position }, { onValue })
      .catch((error: unknown) => counts() && this.#refused(error));
  }

  /** Takes the channel's part of the answer to `$resume`. */
  resumed(answer: SubscribeData | { error: ErrorBody }): void {
    this.#turn++;
    if ('error' in answer) this.#refused(exceptionOf(answer.error));
    else this.#subscribed(answer);
  }

  /** The link is gone; the next one carries the channel on. */
  linkLost(): void {
    this.#live = false;
    this.#turn++;
    this.#cancelRetry?.();
    this.#presence.pause();
  }

  /** Ends the subscription here: a pending `subscribe()` rejects with `error`, and iterations do, if it is a failure. */
  close(error: CodedException, failed: boolean): void {
    this.linkLost();
    this.#wanted = false;
    this.#later = undefined;
    this.#presence.stop();
    for (const queue of this.#iterations) queue.end(failed ? error : undefined);
    this.#iterations.clear();
    this.#ready?.reject(error);
    this.#ready = undefined;
  }

  /** Takes a frame of this channel. */
  frame(frame: IncomingFrame): void {
    if (!this.#live) return; // of a subscription that was left, or that begins anew
    const event = frame.event as string | undefined;
    if (!event?.startsWith('$')) this.#item(frame, event);
    else if (event === '$lost') this.#lost(frame.data as LostData);
    else if (event === '$presence') this.#presence.change(frame.data as PresenceData);
    else if (event === '$unsubscribed') this.#unsubscribed(frame.data as UnsubscribedData);
  }

  #subscribed(answer: SubscribeData): void {
    const since = this.position;
    const isWhole = this.#tracker.begin(answer);
    this.#live = true;
    this.#answer = answer;
    this.#failures = 0;
    this.#ready?.resolve(answer);
    this.#ready = undefined;
    this.#signals.emit('subscribed', answer);
    if (!isWhole) this.#tellLost(since, answer.position, 'unrecovered');
    this.#tellRecovered();
    this.#presence.refresh();
  }

  #refused(thrown: unknown): void {
    const error = thrown as CodedException;
    if (peerRow(error.code).retry === 'no') this.#fail(error);
    else {
      this.#retry(error.retryAfterMs);
      this.#report(error);
    }
  }

  #fail(error: CodedException): void {
    this.close(error, true);
    this.#report(error);
  }

  #unsubscribed(data: UnsubscribedData): void {
    this.linkLost();
    if (data.resubscribe) this.#retry();
    else this.close(exceptionOf({ code: data.code, message: data.reason }), true);
    this.#signals.emit('unsubscribed', data);
  }

  #retry(toldMs = 0): void {
    const delayMs = Math.max(toldMs, this.#host.retryDelayMs(++this.#failures));
    this.#cancelRetry?.();
    this.#cancelRetry = this.#host.clock.after(delayMs, () => this.ask());
  }

  #item(frame: IncomingFrame, event: string | undefined): void {
    const { offset, tag, skipped, data } = frame as { offset: number; tag: string; skipped?: number; data: unknown };
    const before = this.position ?? '';
    const step = this.#tracker.take(offset, tag, skipped);
    if (step === 'repeated') {
      this.#report(new CodedException('internal', `Publication ${offset} came after ${before}`));
    } else if (step === 'gap') {
      this.#tellLost(before, before, 'gap');
      this.#startAnew();
    } else {
      const position = this.position ?? '';
      if (skipped !== undefined) this.#tell(() => this.#signals.emit('skipped', { count: skipped, position }));
      else if (event !== undefined) {
        const publication = { channel: this.name, event, data, offset, tag, position };
        const since = (data as { $payload?: { since: Position } } | null)?.$payload?.since;
        this.#tell(() => (since ? this.#fetch(publication, since) : this.#deliver(publication)));
      }
      this.#tellRecovered();
    }
  }

  /** Tells something, after all that waits. */
  #tell(act: () => void): void {
    if (this.#later) this.#later(act);
    else act();
  }

  #fetch(publication: Publication, since: Position): void {
    const waiting: (() => void)[] = [];
    const later = (act: () => void) => {
      if (waiting.push(act) <= MAX_WAITING_PUBLICATIONS) return;
      this.#later = undefined;
      this.#tellLost(since, this.position ?? '', 'unrecovered');
    };
    this.#later = later;
    const isOver = () => this.#later !== later;
    const goOn = (act: () => void) => {
      if (isOver()) return;
      this.#later = undefined;
      act();
      for (const next of waiting) this.#tell(next);
    };
    this.#host.fetchPayload(this.name, since, isOver).then(
      (data) => goOn(() => this.#deliver({ ...publication, data })),
      (error: unknown) =>
        goOn(() => {
          this.#tellLost(since, publication.position, 'trimmed');
          if ((error as CodedException).code !== 'position_lost') this.#report(error);
        }),
    );
  }

  #deliver(publication: Publication): void {
    this.#events.emit(publication.event, publication.data, publication);
    this.#events.emit('*', publication.data, publication);
    for (const queue of this.#iterations) queue.push(publication);
  }

  /** A second `$subscribe` of a live channel changes nothing, so the subscription is ended first. */
  #startAnew(): void {
    if (!this.#live) return; // a listener of `lost` has left the channel
    this.#live = false;
    this.#host.call('$unsubscribe', { channel: this.name }).catch(() => {});
    this.ask();
  }

  #lost({ position, reason }: LostData): void {
    const since = this.position;
    this.#tracker.moveTo(position);
    this.#tellLost(since, position, reason);
  }

  #tellLost(since: Position | undefined, position: Position, reason: ChannelSignals['lost'][0]['reason']): void {
    this.#tell(() => this.#signals.emit('lost', { since: since ?? position, position, reason }));
  }

  #tellRecovered(): void {
    const count = this.#tracker.completed();
    if (count === undefined) return;
    const position = this.position ?? '';
    this.#tell(() => this.#signals.emit('recovered', { position, count }));
  }

  #subscribeQuietly(): void {
    if (!this.#wanted) void this.subscribe();
  }

  #report(error: unknown): void {
    if (!this.#signals.emit('error', errorOf(error) as CodedException)) this.#host.onError(error);
  }
}
