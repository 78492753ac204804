import type { INestApplication } from '@nestjs/common';
import WebSocket from 'ws';
import { RealtimeClient } from '../client/client.js';
import type { RequestOptions } from '../client/client.js';
import type { PublishOptions } from '../client/channel.js';
import type { ClientState } from '../client/connector.js';
import type { ClientOptions, TransportName } from '../client/options.js';
import type { WebSocketConstructor } from '../client/websocket.transport.js';
import { Hub } from '../hub/hub.js';
import { RESOLVED_OPTIONS, type ResolvedOptions } from '../nest/options.js';
import { RealtimeService } from '../nest/realtime.service.js';
import { CodedException } from '../protocol/errors.js';
import type { ConnectedData, SubscribeData } from '../protocol/frames.js';
import type { Position } from '../protocol/position.js';
import type { FaultyLink } from './faulty-link.js';
import { Inbox } from './inbox.js';
import { portOf } from './port-of.js';

/** What a test client is told. The client's own options are among them, such as `token`. */
export interface TestClientOptions extends Omit<ClientOptions, 'transports'> {
  /** The only transport that is used. @defaultValue 'websocket' */
  transport?: TransportName;
  /** The endpoint. @defaultValue the module's `path` */
  path?: string;
  /** Channels that are subscribed before the client is handed out. Over SSE there is no connection without one. */
  channels?: readonly string[];
  /** Headers of handshakes and requests, such as a cookie. */
  headers?: Readonly<Record<string, string>>;
  /** The link that the client uses, which the test may cut. @defaultValue none: it connects to the application itself */
  through?: FaultyLink;
  /** How long what is waited for may take; past it the promise rejects, and says what came instead. Real time, ms. @defaultValue 10_000 */
  timeoutMs?: number;
}

/**
 * What came and was not the answer to a request:
 * - a publication: its channel, event, data and offset;
 * - an event of the application that belongs to no channel;
 * - what a channel tells of itself: `$recovered`, `$lost`, `$skipped`, `$unsubscribed`, and with `presence` `$join` and
 *   `$leave`, with the client's own data for them;
 * - `$error` with an Error as its data: what failed and no call reported.
 */
export interface Received {
  readonly channel?: string;
  readonly event: string;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- whatever came, which is what tests are about
  readonly data: any;
  readonly offset?: number;
}

/** The event by which a client without a way up is told that all before has arrived. */
const MARKER = 'nestjs-realtime:settled';
/** Between attempts of a client whose link is cut, so that tests go on at once. */
const BACKOFF = { minMs: 5, maxMs: 50, attemptsPer10s: 2_000 };

/**
 * A client of a running application, over the transport of your choice, which connects by a real socket on the loopback
 * interface; the caller closes it. Rejects with a `RealtimeException` where the handshake or a subscription is refused.
 *
 * @param app - The application, after `app.listen(0)`.
 */
export function createTestClient(app: INestApplication, options: TestClientOptions = {}): Promise<TestClient> {
  return connectTestClient([app], options);
}

/** A client of several nodes, which may change later: of the first, unless a link leads elsewhere. */
export async function connectTestClient(
  apps: readonly INestApplication[],
  options: TestClientOptions,
): Promise<TestClient> {
  const client = new TestClient(apps, options);
  try {
    for (const channel of options.channels ?? []) await client.subscribe(channel);
    if (options.transport !== 'sse') await client.realtime.connect();
  } catch (error) {
    client.close();
    throw error;
  }
  return client;
}

/** What {@link createTestClient} makes. What comes is kept, in order, until a test asks for it. */
export class TestClient {
  /** The client library's own client, for all that is not here. */
  readonly realtime: RealtimeClient;
  readonly #apps: readonly INestApplication[];
  readonly #inbox = new Inbox<Received>();
  readonly #markers = new Inbox<number>();
  readonly #timeoutMs: number;
  readonly #channels = new Set<string>();
  /** Channels that were live when the link was lost, and have not told yet what was missed. */
  readonly #returning = new Set<string>();
  readonly #states = new Set<() => void>();
  #connected: ConnectedData | undefined;
  #lastMarker = 0;
  /** Whether this client has asked for anything, so that its link has a way up. */
  #asks: boolean;
  /** The last that was told. */
  #error: Error | undefined;
  #closedBy: Error | undefined;

  /** @internal */
  constructor(apps: readonly INestApplication[], options: TestClientOptions) {
    const { transport = 'websocket', path, channels: _, headers, through, timeoutMs = 10_000, ...own } = options;
    this.#apps = apps;
    const app = apps[0]!;
    this.#timeoutMs = timeoutMs;
    this.#asks = transport !== 'sse';
    const port = through?.port ?? portOf(app);
    if (port === undefined) throw new Error('The application does not listen: call `await app.listen(0)` first');
    const endpoint = path ?? app.get<ResolvedOptions>(RESOLVED_OPTIONS, { strict: false }).path;
    this.realtime = new RealtimeClient(`http://127.0.0.1:${port}${endpoint}`, {
      backoff: BACKOFF,
      WebSocket: headers ? withHeaders(headers) : WebSocket,
      ...(headers ? { fetch: fetchWith(headers) } : {}),
      storage: null,
      ...own,
      transports: [transport],
    });
    this.realtime.on('connected', (data) => {
      this.#connected = data;
      this.#mark();
    });
    this.realtime.on('event', (event, data) => {
      if (event === MARKER) this.#markers.put(data as number);
      else this.#inbox.put({ event, data });
    });
    this.realtime.on('error', (error) => {
      this.#error = error;
      if (this.state !== 'closed') this.#inbox.put({ event: '$error', data: error });
    });
    this.realtime.on('state', (state) => this.#changed(state));
  }

  get state(): ClientState {
    return this.realtime.state;
  }

  /** The transport of the link in use. */
  get transport(): string | undefined {
    return this.realtime.transport;
  }

  /** The id of the connection at the hub: what `toConnection()` takes. */
  get connectionId(): string | undefined {
    return this.#connected?.connection;
  }

  /** Who the hub says that the client is. */
  get user(): ConnectedData['user'] {
    return this.#connected?.user;
  }

  /**
   * Subscribes, and resolves when live; rejects with the hub's code. With `presence` the members' coming and going is
   * told, by `$join` and `$leave`.
   */
  async subscribe(channel: string, { presence = false }: { presence?: boolean } = {}): Promise<SubscribeData> {
    const subscription = this.realtime.channel(channel);
    if (!this.#channels.has(channel)) this.#listen(channel);
    const answer = await subscription.subscribe();
    if (presence) {
      this.#asks = true;
      subscription.on('join', (data) => this.#inbox.put({ channel, event: '$join', data }));
      subscription.on('leave', (data) => this.#inbox.put({ channel, event: '$leave', data }));
      await subscription.presence();
    }
    return answer;
  }

  /** Leaves a channel. */
  unsubscribe(channel: string): Promise<void> {
    this.#returning.delete(channel);
    return this.realtime.channel(channel).unsubscribe();
  }

  /** Publishes, and resolves with the position; rejects with the hub's code. */
  publish(channel: string, event: string, data?: unknown, options?: PublishOptions): Promise<Position | null> {
    this.#asks = true;
    return this.realtime.channel(channel).publish(event, data, options);
  }

  /** Asks a handler, and resolves with the data of its answer; rejects with the hub's code. */
  request<T = unknown>(event: string, data?: unknown, options?: RequestOptions): Promise<T> {
    this.#asks = true;
    return this.realtime.request<T>(event, data, options);
  }

  /** Sends an event that expects no answer. False if no link is open. */
  send(event: string, data?: unknown): boolean {
    this.#asks = true;
    return this.realtime.send(event, data);
  }

  /**
   * The next that came and has not been asked for: of all, of an event's name, or of those for which a function is
   * true; the others stay. Rejects where the client was closed, and after `timeoutMs`.
   */
  next(which: string | ((received: Received) => boolean) = () => true): Promise<Received> {
    const matches = typeof which === 'string' ? ({ event }: Received): boolean => event === which : which;
    const what = typeof which === 'string' ? `'${which}'` : 'it';
    return this.#inbox.take(matches, this.#timeoutMs, () => this.#late(what));
  }

  /**
   * The barrier: resolves when everything has arrived that was caused before, with what has come and was not asked for.
   * Caused before means by what this client sent, by publications and emits whose promises have resolved, and by
   * whatever these cause in their own turn; a handler that waits for a timer or a database is not waited for. While the
   * link is cut it waits for the way back, and for what was missed.
   */
  async settle(): Promise<Received[]> {
    await this.#back();
    if (this.#asks) await this.#ask();
    // What goes out at the end of a turn may come after the first marker, and is there before the second.
    await this.#pass();
    await this.#pass();
    return this.#inbox.takeAll();
  }

  /** Resolves when the client is in a state, at once if it is. Rejects after `timeoutMs`. */
  async reach(state: ClientState): Promise<void> {
    await this.#until(() => this.state === state, `the state '${state}'`);
  }

  /** Resolves when the client was closed for good, with the error that closed it. Rejects after `timeoutMs`. */
  async closed(): Promise<Error | undefined> {
    await this.reach('closed');
    return this.#closedBy;
  }

  /** Ends everything: whoever waits rejects. */
  close(): void {
    this.realtime.close();
  }

  #listen(channel: string): void {
    this.#channels.add(channel);
    const subscription = this.realtime.channel(channel);
    const tell = (event: string) => (data: unknown) => this.#inbox.put({ channel, event, data });
    const back = (event: string) => (data: unknown) => {
      tell(event)(data);
      this.#returning.delete(channel);
      this.#wake();
    };
    subscription.on('recovered', back('$recovered'));
    subscription.on('lost', back('$lost'));
    subscription.on('unsubscribed', back('$unsubscribed'));
    subscription.on('skipped', tell('$skipped'));
    subscription.on('*', (data, { event, offset }) => this.#inbox.put({ channel, event, data, offset }));
  }

  #changed(state: ClientState): void {
    if (state === 'closed') {
      const before = this.#error;
      // The error that closed the client is told right after the state.
      queueMicrotask(() => {
        this.#closedBy = this.#error === before ? undefined : this.#error;
        this.#returning.clear();
        this.#inbox.fail(this.#end);
        this.#markers.fail(this.#end);
        this.#wake();
      });
      return;
    }
    this.#inbox.reopen();
    this.#markers.reopen();
    if (state !== 'open') this.#expectReturns();
    this.#wake();
  }

  /** What is told to whoever waits for a client that was closed. */
  get #end(): Error {
    return this.#closedBy ?? new CodedException('gone', 'The client is closed');
  }

  #expectReturns(): void {
    for (const channel of this.#channels) {
      if (this.realtime.channel(channel).state === 'subscribing') this.#returning.add(channel);
    }
  }

  /** Resolves when the link is open, and what was missed has come. */
  #back(): Promise<void> {
    return this.#until(() => this.state === 'open' && this.#returning.size === 0, 'the way back');
  }

  /** Resolves when the hub has taken what this client sent before. */
  async #ask(): Promise<void> {
    try {
      await this.realtime.request('$cancel', { id: 0 }, { timeoutMs: this.#timeoutMs });
    } catch (error) {
      if ((error as CodedException).code !== 'outcome_unknown' || this.state === 'open') throw error;
      await this.#back(); // lost with its link
      await this.#ask();
    }
  }

  /** Resolves when the hub's next event for this connection has come. */
  async #pass(): Promise<void> {
    const expected = ++this.#lastMarker;
    const arrived = this.#markers.take(
      (marker) => marker === expected,
      this.#timeoutMs,
      () => this.#late('everything'),
    );
    this.#mark();
    await arrived;
    await this.#back();
  }

  /** Sends the marker that is waited for, on the connection of now. */
  #mark(): void {
    if (this.#lastMarker === 0 || this.#connected === undefined) return;
    const { connection } = this.#connected;
    for (const app of this.#apps) {
      const here = app.get(Hub, { strict: false }).connections.get(connection);
      if (here?.emit(MARKER, this.#lastMarker)) return;
    }
    const listening = this.#apps.find((app) => portOf(app) !== undefined);
    listening
      ?.get(RealtimeService, { strict: false })
      .toConnection(connection)
      .emit(MARKER, this.#lastMarker)
      .catch((error: unknown) => this.#markers.fail(error as Error));
  }

  #until(holds: () => boolean, what: string): Promise<void> {
    if (holds()) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const end = (): void => {
        clearTimeout(timer);
        this.#states.delete(look);
      };
      const look = (): void => {
        if (holds()) {
          end();
          resolve();
        } else if (this.state === 'closed') {
          end();
          reject(this.#end);
        }
      };
      const timer = setTimeout(() => {
        end();
        reject(this.#late(what));
      }, this.#timeoutMs);
      this.#states.add(look);
      look();
    });
  }

  #wake(): void {
    for (const look of [...this.#states]) look();
  }

  #late(what: string): Error {
    const waiting = this.#inbox.list().map(({ channel, event }) => (channel ? `${channel} ${event}` : event));
    const came = waiting.length === 0 ? 'nothing' : waiting.join(', ');
    const error = this.#error ? `, last error: ${this.#error.message}` : '';
    return new Error(
      `Within ${this.#timeoutMs} ms ${what} did not come; the client is ${this.state}, there was ${came}${error}`,
    );
  }
}

/** The WebSocket of the package ws, with headers of one's own. */
function withHeaders(headers: Readonly<Record<string, string>>): WebSocketConstructor {
  return class extends WebSocket {
    constructor(url: string | URL, protocols?: string | string[]) {
      super(url, protocols, { headers });
    }
  };
}

function fetchWith(headers: Readonly<Record<string, string>>): typeof fetch {
  return (input, init) => {
    const all = new Headers(init?.headers);
    for (const [name, value] of Object.entries(headers)) all.set(name, value);
    return fetch(input, { ...init, headers: all });
  };
}
