import { CodedException, type ErrorBody } from '../protocol/errors.js';
import type { ConnectedData, ResumeAnswer } from '../protocol/frames.js';
import { AsyncQueue } from './async-queue.js';
import type { Channel } from './channel.js';
import { Connector, type ClientState, type StateDetails } from './connector.js';
import { makeDeferred, type Deferred } from './deferred.js';
import { Emitter } from './emitter.js';
import { errorOf, exceptionOf } from './failures.js';
import type { ClientOptions } from './options.js';
import { makeRandomId } from './random-id.js';
import { Requests } from './requests.js';
import { resolveShared } from './sharing.js';
import { Subscription, type SubscriptionHost } from './subscription.js';
import type { ClientLink, IncomingFrame } from './transport.js';

/** What a client tells, with the arguments of its listeners. */
export interface ClientEvents {
  /** The state changed. */
  state: [state: ClientState, details: StateDetails];
  /**
   * Something failed that no call reports: an `exception` from the hub, a listener that threw, a token that could not
   * be fetched, the error that closed the client, an error of a channel without a listener of its own. Without a
   * listener here the page's `reportError` gets it.
   */
  error: [error: Error];
  /** The hub has accepted the connection. */
  connected: [data: ConnectedData];
  /** An event of the application that belongs to no channel: from `toUser().emit`, `toConnection().emit`, a gateway. */
  event: [event: string, data: unknown];
}

/** Options of one request. */
export interface RequestOptions {
  /** How long the answer may take, waiting for a link included. Milliseconds. @defaultValue the client's `requestTimeoutMs` */
  timeoutMs?: number;
  /** Rejects with the signal's reason, and tells the hub to stop. */
  signal?: AbortSignal;
}

/** What a client has done so far. */
export interface ClientStats {
  /** How often a link was opened. */
  readonly opened: number;
  /** Attempts that failed in a row. */
  readonly failures: number;
  /** Requests that wait for a link or an answer. */
  readonly pending: number;
  /** Frames received. */
  readonly received: number;
}

const MAX_WAITING_VALUES = 1_000;

/**
 * A client of one hub: it connects on first use, comes back by itself, and tells for each channel whether anything was
 * missed.
 *
 * A request gets exactly one final answer or rejects with a `RealtimeException`: with the hub's code;
 * `outcome_unknown` when the link was lost before the answer; `rate_limited` when the queue is full; `not_available`
 * when it was not sent in time, or cannot be; `frame_too_large`; `gone` when the client is closed.
 *
 * Where the client is `receiveOnly`, requests over SSE are `not_available`.
 */
export class RealtimeClient {
  /** Names this client at the hub, over all its connections: random, made here. */
  readonly id: string = makeRandomId();
  readonly #emitter: Emitter<ClientEvents>;
  readonly #requests: Requests;
  readonly #connector: Connector;
  readonly #channels = new Map<string, Subscription>();
  #opening: Deferred<void> | undefined;
  /** What every channel needs. */
  readonly #channelHost: SubscriptionHost;
  /** Anonymous peers share one scope of keys, and see each other's client id: keys have a secret prefix. */
  readonly #keyPrefix = makeRandomId();
  #lastKey = 0;
  #received = 0;
  #closedBy: CodedException | undefined;

  /**
   * @param url - the hub's path: `https://example.com/realtime`, also as `wss:`, or `/realtime` in a page
   * @throws TypeError for an address or transports that cannot be used
   */
  constructor(url: string | URL, options: ClientOptions = {}) {
    const resolved = resolveShared(url, options);
    const { clock, backoff } = resolved;
    this.#emitter = new Emitter((error) => this.#report(error));
    this.#requests = new Requests(resolved);
    this.#connector = new Connector(resolved, {
      client: this.id,
      resumeChannels: () => this.#wanted().map(({ name, position }) => [name, position ?? null]),
      position: (channel) => this.#channels.get(channel)?.position,
      windowMs: () => Math.min(...this.#wanted().map(({ windowMs }) => windowMs)),
      onState: (state, details) => this.#emitter.emit('state', state, details),
      onConnected: (data) => this.#emitter.emit('connected', data),
      onOpen: (answer, link) => this.#opened(answer, link),
      isBusy: () => this.#requests.size > 0,
      onFrame: (frame) => this.#frame(frame),
      onLost: () => this.#lost(),
      onError: (error) => this.#report(error),
      onClosed: (error) => this.#closed(error),
    });
    this.#channelHost = {
      clock,
      isOpen: () => this.#requests.isOpen,
      use: () => this.#use(),
      call: (event, data, options) => this.#call(event, data, options),
      makeKey: () => `${this.#keyPrefix}-${(++this.#lastKey).toString(36)}`,
      retryDelayMs: (failures) => backoff.delayMs(failures),
      fetchPayload: async (...args) => {
        const { payloadOverHttp } = await import('./http.transports.js');
        return payloadOverHttp(resolved, this.#connector.token, ...args);
      },
      onError: (error) => this.#report(error),
    };
  }

  get state(): ClientState {
    return this.#connector.state;
  }

  /** The transport of the link in use. */
  get transport(): string | undefined {
    return this.#connector.transport;
  }

  /** The last round trip that was measured: of a request, or of the opening. Milliseconds. */
  get latencyMs(): number | undefined {
    return this.#requests.latencyMs;
  }

  get stats(): ClientStats {
    const { opened, failures } = this.#connector;
    return { opened, failures, pending: this.#requests.size, received: this.#received };
  }

  /** Listens to the client; returns what removes the listener. */
  on<E extends keyof ClientEvents>(event: E, listener: (...args: ClientEvents[E]) => unknown): () => void {
    return this.#emitter.on(event, listener);
  }

  /**
   * Connects, also after the client was closed; not needed before first use. Resolves when open, rejects when the
   * client is closed first, with the error that closed it. After a close, channels must be subscribed anew.
   */
  connect(): Promise<void> {
    this.#closedBy = undefined;
    this.#connector.open();
    if (this.state === 'open') return Promise.resolve();
    return (this.#opening ??= makeDeferred()).promise;
  }

  /** Drops the link like a cut cable, and comes back the ordinary way: backoff, `$resume`, `recovered` or `lost`. */
  reconnect(): void {
    this.#connector.drop('reconnect');
  }

  /**
   * Ends everything: what is pending rejects (`gone`, or `outcome_unknown` if it was sent), channels are left and
   * iterations end, no timer and no listener on the page stays. Listeners of the client and its channels stay. Using a
   * channel of a closed client is told as its `error`; `connect()` opens the client again.
   */
  close(): void {
    this.#closedBy ??= new CodedException('gone');
    this.#connector.close();
  }

  /** The channel of this name, always the same object. Nothing is sent before its first use. */
  channel<Events extends object = Record<string, unknown>>(name: string): Channel<Events> {
    let channel = this.#channels.get(name);
    if (!channel) {
      channel = new Subscription(name, this.#channelHost);
      this.#channels.set(name, channel);
    }
    return channel as unknown as Channel<Events>; // events have types for the application only
  }

  /**
   * Asks a handler of the hub (`@SubscribeMessage(event)`) and resolves with its answer; of a stream, with the first
   * value. Waits for a link where there is none. Is never sent twice.
   */
  request<T = unknown>(event: string, data?: unknown, options: RequestOptions = {}): Promise<T> {
    return this.#call(event, data, options) as Promise<T>;
  }

  /**
   * Asks a handler and iterates over the values of its answer; leaving the loop tells the hub to stop. At most 1,000
   * values wait for a slow loop: one more ends it with `slow_consumer`. The timeout counts until the first value.
   */
  requestStream<T = unknown>(
    event: string,
    data?: unknown,
    options: RequestOptions = {},
  ): AsyncIterableIterator<T, undefined> {
    const leave = new AbortController();
    const signal = options.signal ? AbortSignal.any([options.signal, leave.signal]) : leave.signal;
    const queue = new AsyncQueue<T>(MAX_WAITING_VALUES, () => leave.abort());
    this.#call(event, data, { ...options, signal, onValue: (value) => queue.push(value as T) }).then(
      () => queue.end(),
      (error: unknown) => queue.end(errorOf(error)),
    );
    return queue;
  }

  /** Sends an event and expects no answer. False if no link is open: it is not queued. */
  send(event: string, data?: unknown): boolean {
    return this.#requests.send(event, data);
  }

  #wanted(): Subscription[] {
    return [...this.#channels.values()].filter((channel) => channel.wanted);
  }

  #use(): void {
    if (this.#closedBy) throw this.#closedBy;
    this.#connector.open();
  }

  async #call(...args: Parameters<Requests['call']>): Promise<unknown> {
    this.#use();
    return this.#requests.call(...args);
  }

  #opened({ channels }: ResumeAnswer, link: ClientLink): void {
    const { maxFrameBytes, latencyMs } = this.#connector;
    this.#requests.opened(link, maxFrameBytes, latencyMs);
    for (const [name, channel] of this.#channels) {
      const answer = Object.hasOwn(channels, name) ? channels[name] : undefined;
      if (!channel.wanted) {
        // It was left after `$resume` had named it.
        if (answer && !('error' in answer)) this.#call('$unsubscribe', { channel: name }).catch(() => {});
      } else if (answer) channel.resumed(answer);
      else channel.ask();
    }
    this.#opening?.resolve();
    this.#opening = undefined;
  }

  #frame(frame: IncomingFrame): void {
    this.#received++;
    const { id, channel, event, data } = frame;
    if (id !== undefined) this.#requests.answer(frame);
    else if (typeof channel === 'string') this.#channels.get(channel)?.frame(frame);
    else if (event === 'exception') this.#report(exceptionOf(data as ErrorBody));
    else if (typeof event === 'string' && !event.startsWith('$')) this.#emitter.emit('event', event, data);
  }

  #lost(): void {
    this.#requests.lost();
    for (const channel of this.#channels.values()) channel.linkLost();
  }

  #closed(error = this.#closedBy ?? new CodedException('gone')): void {
    const refused = error !== this.#closedBy;
    this.#closedBy = error;
    this.#requests.closed(error);
    for (const channel of this.#channels.values()) channel.close(error, refused);
    this.#opening?.reject(error);
    this.#opening = undefined;
  }

  #report(thrown: unknown): void {
    const error = errorOf(thrown);
    if (!this.#emitter.emit('error', error)) (globalThis as { reportError?(error: Error): void }).reportError?.(error);
  }
}
