import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { encodeAnswer, encodeEvent, encodeError } from '../protocol/encode.js';
import { closeCodeOf, CLOSE_NORMAL, ERRORS, retryAfterClose, type ErrorCode } from '../protocol/errors.js';
import type { ConnectedData, DisconnectData, FrameId, SubscribeData, UnsubscribedData } from '../protocol/frames.js';
import type { Position } from '../protocol/position.js';
import type { Batch } from './batch.js';
import type { Call, Caller } from './call.js';
import { cutReason } from './close-reason.js';
import type { Refusals } from './frame-limit.js';
import { UserIdentity } from './identity.js';
import type { Log } from './log.js';
import { Outbox, type Source } from './outbox.js';
import type { ConnectionInfo } from './ports/broker.js';
import type { Arrival, Place } from './ports/arrival.js';
import type { Link } from './ports/link.js';
import type { FrameTally } from './ports/meter.js';
import type { AdmittedConnection, ResponseHeaders } from './ports/transport.js';
import type { SharedFrame } from './shared-frame.js';
import type { Membership } from './membership.js';
import type { Sink, Subscription } from './subscription.js';
import type { Turn } from './turn.js';

/** What a connection needs of its hub. */
export interface ConnectionHost {
  readonly turn: Turn;
  readonly maxOutboxBytes: number;
  readonly node: string;
  readonly log: Log;
  now(): number;
  /** A link was attached. */
  attached(connection: Connection): void;
  /** A frame came; `undefined`: one that is not UTF-8. */
  received(connection: Connection, text: string | undefined, bytes: number): void;
  /** Settles when the connection hooks have. */
  opened(connection: Connection): Promise<void>;
  prepare(connection: Connection, channel: string, since: Position | undefined): Promise<() => SubscribeData>;
  connectedData(connection: Connection): ConnectedData;
  /** The connection is over, or about to be: its subscriptions end. Called once. */
  closing(connection: Connection): void;
  /** The link is gone. Called once, after `closing`. */
  closed(connection: Connection): void;
  subscribe(connection: Connection, channel: string): Promise<Position>;
  unsubscribe(connection: Connection, channel: string): Promise<void>;
}

/**
 * - `handshake`: guards run; there is no link.
 * - `waiting`: the token is awaited in the first frame.
 * - `opening`: connection hooks run; frames are held.
 * - `open`, `closing`, `closed`.
 */
export type ConnectionPhase = 'handshake' | 'waiting' | 'opening' | 'open' | 'closing' | 'closed';

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- three events with different arguments, as in ws
type Listener = (...args: any[]) => void;

const READY_STATE = { handshake: 0, waiting: 1, opening: 1, open: 1, closing: 2, closed: 3 } as const;

/**
 * An identified peer: Nest's `client` in gateways and channel hooks, the same object for its life on this node. It is
 * no EventEmitter: `emit` sends to the peer.
 */
export class Connection<D = Record<string, unknown>> implements Sink, Caller, AdmittedConnection {
  static readonly CONNECTING = 0;
  static readonly OPEN = 1;
  static readonly CLOSING = 2;
  static readonly CLOSED = 3;

  /** Unique over all nodes; not secret. */
  readonly id: string;
  /** The wire: `websocket`, `sse`. */
  readonly transport: string;
  /** The peer's address, behind trusted proxies the one that they name. */
  readonly ip: string;
  readonly query: Readonly<Record<string, string>>;
  /** The parameters of the endpoint's path. */
  readonly params: Readonly<Record<string, string>>;
  /** How it ended: the close code, and the reason (the name of an error, or what `close` was given). */
  closed?: { readonly code: number; readonly reason: string };

  /** @internal */ readonly endpoint: string;
  /** @internal */ readonly openedAt: number;
  /** @internal Its place among those that are counted. */ readonly place: Place | undefined;
  /** @internal Set by guards of the handshake; until the connection is open. */
  responseHeaders: ResponseHeaders | undefined;
  /** @internal Whether the peer sent `$resume`, and so knows `$ping`. */
  resumed = false;
  /** @internal Its place in the heartbeat's wheel. */
  slot = 0;
  /** @internal Whether the connection hooks were called, so that the disconnection hooks have to be. */
  hooked = false;
  /** @internal Counts how often the peer came to be allowed other things than before. */
  authority = 0;
  /** @internal Whether it came to be open, on this node or another. */
  entered = false;
  /** @internal Whether its peer or the wire ended it: the reason is what the peer says then. */
  endedByWire = false;
  /** @internal Whether its hooks are another node's to run. */
  fenced = false;
  /** @internal Whether a frame came other than `$auth`, `$resume` and `$pong`. */
  spoke = false;
  /** @internal When its bucket of frames is full again, by the clock of the limit. */
  bucketFullAt = 0;
  /** @internal What it was told of frames over the limit. */
  refusals: Refusals | undefined = undefined;
  /** @internal How many of its frames are being served. */
  framesInFlight = 0;
  /** @internal Whether the application's handlers are bound, and what they are. */
  binding: unknown = undefined;
  /** @internal */ readonly subscriptions = new Map<string, Membership>();

  readonly #host: ConnectionHost;
  readonly #outbox: Outbox;
  readonly #rawHeaders: string;
  #request: IncomingMessage | undefined;
  #user: UserIdentity | undefined;
  #client: string | undefined;
  #data: D | undefined;
  #link: Link | undefined;
  #phase: ConnectionPhase = 'handshake';
  #listeners: Map<string, Listener[]> | undefined;
  #calls: Set<Call> | undefined;
  /** The channels it was subscribed to when it ended. */
  #lastChannels: readonly string[] = [];

  /** @internal Connections are made by the hub. */
  constructor(id: string, arrival: Omit<Arrival, 'request'> & Partial<Arrival>, host: ConnectionHost) {
    this.id = id;
    this.endpoint = arrival.endpoint;
    this.transport = arrival.transport;
    this.ip = arrival.ip;
    this.query = arrival.query;
    this.params = arrival.params;
    this.openedAt = host.now();
    this.place = arrival.place;
    this.#host = host;
    this.#user = arrival.user;
    this.#request = arrival.request;
    this.#rawHeaders = arrival.request?.rawHeaders.join('\n') ?? '';
    this.#outbox = new Outbox(host.turn, host.maxOutboxBytes, this);
  }

  /**
   * @internal A connection of a node that died, for its hooks: over, and with what the registry knows of it. Headers, the
   * query, claims and `data` died with the node.
   */
  static departed(info: ConnectionInfo, host: ConnectionHost): Connection {
    const { id, endpoint, transport, ip, params, userId, client, channels } = info;
    const user = userId === undefined ? undefined : new UserIdentity(userId);
    const arrival = { endpoint, transport, ip, params, user, query: {}, awaitsToken: false };
    const connection = new Connection(id, arrival, host);
    connection.#client = client;
    connection.depart({ code: closeCodeOf('lease_lost'), reason: 'lease_lost' }, channels);
    return connection;
  }

  /** @internal It is over, and was never open here: its last hooks run. */
  depart(closed: { code: number; reason: string }, channels: readonly string[]): void {
    this.#lastChannels = channels;
    this.#phase = 'closed';
    this.closed = closed;
  }

  /** What the peer calls this instance of itself, kept over reconnects; `exclude` names it. */
  get client(): string {
    return this.#client ?? this.id;
  }

  /** Who the peer is; `undefined` where it is anonymous. */
  get user(): UserIdentity | undefined {
    return this.#user;
  }

  /** What the application keeps with the connection. */
  get data(): D {
    return (this.#data ??= {} as D);
  }

  set data(data: D) {
    this.#data = data;
  }

  /** The headers of the request that opened the connection. */
  get headers(): IncomingHttpHeaders {
    return parseHeaders(this.#rawHeaders);
  }

  /** 0 connecting, 1 open, 2 closing, 3 closed; as in the WebSocket API. */
  get readyState(): 0 | 1 | 2 | 3 {
    return READY_STATE[this.#phase];
  }

  get CONNECTING(): 0 {
    return 0;
  }

  get OPEN(): 1 {
    return 1;
  }

  get CLOSING(): 2 {
    return 2;
  }

  get CLOSED(): 3 {
    return 3;
  }

  /** The channels it is subscribed to. */
  get channels(): ReadonlySet<string> {
    return new Set(this.subscriptions.keys());
  }

  /**
   * Sends an event to this peer, in order with answers. False: the connection is not open, or the event would exceed
   * `maxOutboxBytes`; it was not sent. Throws a TypeError for data that JSON cannot hold.
   */
  emit(event: string, data?: unknown): boolean {
    return this.direct(encodeEvent(event, data));
  }

  /** Sends text as one frame, as it is. What exceeds `maxOutboxBytes` is dropped. Throws a TypeError for all but text. */
  send(text: string): void {
    if (typeof text !== 'string') throw new TypeError('send() takes a string: frames are text on every wire');
    this.direct(text);
  }

  /**
   * Ends the connection after what was sent: `$disconnect` in-band, then the wire's own close.
   * @param code A close code; 44xx tell our client not to come back. @defaultValue 1000
   * @param reason At most 123 bytes of UTF-8; longer text is cut.
   */
  close(code: number = CLOSE_NORMAL, reason = ''): void {
    this.disconnect({ code, reason, reconnect: retryAfterClose(code) !== 'no' });
  }

  /** Destroys the link at once. */
  terminate(): void {
    this.#end(1006, '');
    if (this.#link === undefined) this.#over();
    else this.#link.terminate();
  }

  /** Subscribes the peer without asking the channel's guards and hooks. Rejects with the code that a peer would get. */
  subscribe(channel: string): Promise<Position> {
    return this.#host.subscribe(this as Connection, channel);
  }

  /** Ends a subscription; nothing happens where there is none. */
  unsubscribe(channel: string): Promise<void> {
    return this.#host.unsubscribe(this as Connection, channel);
  }

  /**
   * Listens to `message` (a frame, as a Buffer, also those that handlers take), `close` (code, reason) or `error`. A peer
   * with `message` listeners gets no error for frames without id that no handler takes.
   */
  on(event: 'message' | 'close' | 'error', listener: Listener): this {
    const listeners = (this.#listeners ??= new Map<string, Listener[]>());
    listeners.set(event, [...(listeners.get(event) ?? []), listener]);
    return this;
  }

  once(event: 'message' | 'close' | 'error', listener: Listener): this {
    const wrapped: Listener & { listener?: Listener } = (...args: unknown[]) => {
      this.off(event, wrapped);
      listener(...args);
    };
    wrapped.listener = listener; // as in Node, so that `off` finds it
    return this.on(event, wrapped);
  }

  off(event: 'message' | 'close' | 'error', listener: Listener): this {
    const rest = this.#listeners
      ?.get(event)
      ?.filter((other: Listener & { listener?: Listener }) => other !== listener && other.listener !== listener);
    this.#listeners?.set(event, rest ?? []);
    return this;
  }

  // What follows is the hub's side.

  /** @internal */
  get phase(): ConnectionPhase {
    return this.#phase;
  }

  /** @internal Whether it is closing or closed: nothing reaches the peer any more. */
  get over(): boolean {
    return this.#phase === 'closing' || this.#phase === 'closed';
  }

  /** @internal The channels it is subscribed to, or was when it ended. */
  get lastChannels(): readonly string[] {
    return this.over ? this.#lastChannels : [...this.subscriptions.keys()];
  }

  /** @internal The request that opened the connection, until its hooks have run. */
  get request(): IncomingMessage | undefined {
    return this.#request;
  }

  /** @internal */
  get link(): Link | undefined {
    return this.#link;
  }

  /** @internal */
  get calls(): Set<Call> {
    return (this.#calls ??= new Set());
  }

  /** @internal The peer has had enough of a stream. */
  cancel(id: FrameId): void {
    for (const call of this.calls) if (call.id === id) call.cancel();
  }

  /** @internal */
  identify(user: UserIdentity | undefined): void {
    this.#user = user;
  }

  /** @internal */
  introduce(client: string): void {
    this.#client = client;
  }

  /** @internal The phase before `closing`; the later ones are entered by closing. */
  enter(phase: 'waiting' | 'opening' | 'open'): void {
    if (this.over) return;
    this.#phase = phase;
    if (phase !== 'open') return;
    this.#request = undefined;
    this.responseHeaders = undefined;
  }

  /** @internal */
  attach(link: Link): void {
    if (this.over) {
      // A guard of the handshake closed it.
      link.close(this.closed?.code ?? CLOSE_NORMAL, this.closed?.reason ?? '');
      return;
    }
    this.#link = link;
    this.#outbox.attach(link);
    this.#host.attached(this as Connection);
  }

  /** @internal */
  get opened(): Promise<void> {
    return this.#host.opened(this as Connection);
  }

  /** @internal */
  prepare(channel: string, since: Position | undefined): Promise<() => SubscribeData> {
    return this.#host.prepare(this as Connection, channel, since);
  }

  /** @internal */
  connectedData(): ConnectedData {
    return this.#host.connectedData(this as Connection);
  }

  /** @internal */
  receive(text: string, bytes: number = Buffer.byteLength(text)): void {
    this.#host.received(this as Connection, text, bytes);
  }

  /** @internal */
  receiveBad(bytes: number): void {
    this.#host.received(this as Connection, undefined, bytes);
  }

  /** @internal */
  receiveTooLarge(): void {
    this.fail('frame_too_large');
  }

  /** @internal Tells the application of a frame, if it listens itself. */
  overhear(text: string): void {
    if (this.#listeners !== undefined) this.#tell('message', () => [Buffer.from(text), false]);
  }

  /** @internal Whether the application listens to frames itself. */
  get hasMessageListeners(): boolean {
    return (this.#listeners?.get('message')?.length ?? 0) > 0;
  }

  /** @internal Sends an answer. */
  answer(text: string): void {
    if (this.#phase === 'closed' || this.direct(text, this.#host.turn.meter.sent.answer)) return;
    if (this.#phase !== 'closing') this.fail('slow_consumer');
  }

  /** @internal */
  deliver(frame: SharedFrame, tally?: FrameTally): boolean {
    return this.direct(frame, tally);
  }

  /** @internal Sends a frame to this peer alone. False: there is no room for it, and it was not sent. */
  protected direct(frame: string | SharedFrame, tally: FrameTally = this.#host.turn.meter.sent.event): boolean {
    return this.#outbox.frame(frame, tally);
  }

  /** @internal Whether it has a record, and so outlives its links and its nodes. */
  get recorded(): boolean {
    return false;
  }

  /** @internal Its subscription is settled: from now on it is told by itself what is published. */
  subscribed(subscription: Subscription, _answer: SubscribeData): void {
    this.subscriptions.set(subscription.channel, subscription);
  }

  /** @internal When the peer is to be asked for new credentials, as its record says. */
  get askAt(): number | undefined {
    return undefined;
  }

  /** @internal The peer was asked for new credentials. */
  asked(): void {}

  /** @internal A subscription that was parked is over. */
  unpark(_membership: Membership): void {}

  /** @internal The hub ended a subscription. */
  unsubscribed(membership: Membership, data: UnsubscribedData): void {
    this.#outbox.event(membership as Subscription, '$unsubscribed', data); // without a record it is one
  }

  /** @internal */
  greet(): void {
    if (this.#link?.greets !== false) return;
    const greeting = encodeEvent('$connected', this.connectedData());
    if (!this.direct(greeting, this.#host.turn.meter.sent.$connected)) this.fail('slow_consumer');
  }

  /** @internal An answer or `exception` for an error. */
  refuse(id: FrameId | undefined, code: ErrorCode, message: string = ERRORS[code].message): void {
    this.#host.turn.meter.error(code);
    this.answer(encodeError(id, { code, message }));
  }

  /** @internal */
  reply(id: FrameId | undefined, json: string): void {
    if (id !== undefined) this.answer(encodeAnswer(id, json));
  }

  /** @internal Ends the connection with an error of the table. */
  fail(code: ErrorCode, delayMs?: number): void {
    const close = closeCodeOf(code);
    this.disconnect({
      code: close,
      reason: code,
      reconnect: retryAfterClose(close) !== 'no',
      ...(delayMs === undefined ? {} : { delayMs }),
    });
  }

  /** @internal Tells the peer, then closes; what waits in a slow peer's outbox is given up. */
  disconnect(data: DisconnectData): void {
    const link = this.#link;
    if (this.over) return;
    const reason = cutReason(data.reason);
    if (link === undefined) {
      this.#end(data.code, reason);
      this.#over();
      return;
    }
    this.#outbox.end(encodeEvent('$disconnect', { ...data, reason }), reason === 'slow_consumer');
    this.#end(data.code, reason);
    link.close(data.code, reason, data.delayMs);
  }

  /** @internal The link has gone; not `byWire`: the hub knows how it ended. */
  ended(code: number, reason: string, byWire = true): void {
    if (!this.over) this.endedByWire = byWire;
    this.#end(code, reason);
    this.#over();
  }

  /** @internal */
  drained(): void {
    this.#outbox.drained();
  }

  /** @internal */
  info(): ConnectionInfo {
    const { id, transport, ip, endpoint, params, openedAt, lastChannels } = this;
    return {
      id,
      node: this.#host.node,
      transport,
      ip,
      endpoint,
      params,
      openedAt,
      channels: lastChannels,
      ...(this.#client === undefined ? {} : { client: this.#client }),
      ...(this.#user === undefined ? {} : { userId: this.#user.id }),
    };
  }

  /** @internal */
  get outboxBytes(): number {
    return this.#outbox.bytes;
  }

  /** @internal */
  get hasRoom(): boolean {
    return this.#outbox.hasRoom;
  }

  /** @internal */
  publications(source: Source, batch: Batch): void {
    this.#outbox.publications(source, batch);
  }

  /** @internal */
  event(source: Source, event: '$lost' | '$presence', data: unknown): void {
    this.#outbox.event(source, event, data);
  }

  /** @internal */
  marker(source: Source, epoch: string, offset: number, tag: string): void {
    this.#outbox.marker(source, epoch, offset, tag);
  }

  /** @internal The outbox is full. */
  overflow(): void {
    this.fail('slow_consumer');
  }

  /** @internal The outbox has room again. */
  room(): void {
    for (const subscription of this.subscriptions.values()) subscription.advance();
  }

  #end(code: number, reason: string): void {
    if (this.over) return;
    this.#lastChannels = [...this.subscriptions.keys()];
    this.#phase = 'closing';
    this.closed = { code, reason };
    this.#outbox.clear();
    for (const call of this.#calls ?? []) call.abandon();
    this.#host.closing(this as Connection);
  }

  #over(): void {
    if (this.#phase === 'closed') return;
    this.#phase = 'closed';
    this.#tell('close', () => [this.closed?.code, this.closed?.reason]);
    this.#host.closed(this as Connection);
    this.#request = undefined;
    this.#listeners = undefined;
  }

  /** Calls the application's listeners; what they throw goes to `error` listeners, and is logged where there is none. */
  #tell(event: string, args: () => unknown[]): void {
    const listeners = this.#listeners?.get(event);
    if (listeners === undefined || listeners.length === 0) return;
    const given = args();
    for (const listener of listeners) {
      try {
        listener(...given);
      } catch (error) {
        const heard = event !== 'error' && (this.#listeners?.get('error')?.length ?? 0) > 0;
        if (heard) this.#tell('error', () => [error]);
        else this.#host.log.error(`A connection's listener to '${event}' failed`, error);
      }
    }
  }
}

/** Headers as Node gives them for a request: lower-case names, repeated ones joined. */
function parseHeaders(raw: string): IncomingHttpHeaders {
  const headers: Record<string, string | string[]> = Object.create(null) as Record<string, string>;
  if (raw === '') return headers;
  const parts = raw.split('\n');
  for (let i = 0; i + 1 < parts.length; i += 2) {
    const name = parts[i]!.toLowerCase();
    const value = parts[i + 1]!;
    const known = headers[name];
    if (known === undefined) headers[name] = name === 'set-cookie' ? [value] : value;
    else if (Array.isArray(known)) known.push(value);
    else headers[name] = `${known}${name === 'cookie' ? '; ' : ', '}${value}`;
  }
  return headers;
}
