import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { RealtimeException, type ErrorBody } from '../../protocol/errors.js';
import type { ConnectedData, DisconnectData, SubscribeData } from '../../protocol/frames.js';
import type { Position } from '../../protocol/position.js';
import type { Link } from './link.js';

/** Headers of a response; a list is sent as one header each, as `Set-Cookie` has to be. */
export type ResponseHeaders = Readonly<Record<string, string | readonly string[]>>;

/** A refusal as every wire tells it: an HTTP status with `{ error }` as its body. */
export interface Refusal {
  readonly status: number;
  readonly error: ErrorBody;
  readonly headers?: ResponseHeaders;
}

/**
 * Refuses a peer with a status and headers of its own: what a guard's HttpException becomes. Where there is no status
 * to give (a token in the first frame) it is the `RealtimeException` of its body.
 */
export class RefusalError extends RealtimeException {
  constructor(readonly refusal: Refusal) {
    const { code, message, details, retryAfterMs } = refusal.error;
    super(code, message, details);
    if (retryAfterMs !== undefined) this.retryAfterMs = retryAfterMs;
  }
}

/** An upgrade request for an endpoint. */
export interface UpgradeExchange {
  readonly request: IncomingMessage;
  readonly socket: Duplex;
  readonly head: Buffer;
  /** The subprotocol to select, `bearer` where the token came so. */
  readonly subprotocol?: string;
}

/** A plain request for an endpoint. */
export interface RequestExchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly query: URLSearchParams;
  /** Answers with a status and `{ error }`; the response must not have begun. */
  refuse(refusal: Refusal): void;
}

/**
 * What turns a wire into links: a value made by a factory, given in the module's `transports`. The router matches the
 * path and does the handshake; the transport attaches a link to the admitted connection.
 */
export interface Transport {
  readonly name: string;
  /** The path below an endpoint's path, without a slash at either end; empty for the endpoint's own path. */
  readonly subpath: string;
  /** Methods served by `request`; others are answered 405. Empty where the wire is an upgrade. */
  readonly methods: readonly string[];
  /** Whether a one-time ticket lets a peer in. @defaultValue true */
  readonly takesTickets?: boolean;
  /** Whether its requests are answered at once, so that they count as no connections. @defaultValue false */
  readonly passing?: boolean;
  /** Called once, before anything else. */
  open(settings: TransportSettings): void;
  /** Accepts an upgrade for an admitted connection. */
  upgrade?(exchange: UpgradeExchange, connection: AdmittedConnection): void;
  /** Accepts an upgrade only to close it with a code that browsers can read (`rejectMode: 'close'`). */
  refuseUpgrade?(exchange: UpgradeExchange, code: number, reason: string, disconnectFrame: string): void;
  /** Serves a request for an admitted connection. A rejection is answered as a refusal. */
  request?(exchange: RequestExchange, connection: AdmittedConnection): Promise<void>;
  /** Whether a request is for `serve`, where the transport has `request` too. @defaultValue true */
  serves?(exchange: RequestExchange): boolean;
  /** Serves a request by itself, in place of `request`: its reception does the handshake when it is asked to. */
  serve?(exchange: RequestExchange, reception: Reception): Promise<void>;
  /** Whether peers can send frames, though there is no upgrade. @defaultValue false */
  readonly takesFrames?: boolean;
  /** Answers a refusal in the wire's own way. False: it is answered as everywhere, by its status and `{ error }`. */
  refuseRequest?(exchange: RequestExchange, refusal: Refusal): boolean;
  /** Destroys what the hub has not closed. */
  close(): void;
}

/** Resolved settings that wires need. */
export interface TransportSettings {
  /** `Infinity`: there is no limit. */
  readonly maxFrameBytes: number;
  /** `Infinity`: there is no limit. */
  readonly maxChannels: number;
}

/** Where a peer is in a channel; `undefined` where it did not say. */
export type PositionOf = (channel: string, slot: number | undefined) => Position | undefined;

/** What a poll asks for. */
export interface PollRequest {
  /** The frames of the inbox up to here have arrived. */
  readonly inbox: number;
  readonly positionOf: PositionOf;
  /** For how long it may be held, ms. */
  readonly holdMs: number;
  /** Calls back when the peer is gone. */
  onGone(act: () => void): void;
}

/** What a poll is answered. */
export interface PollAnswer {
  /** Frames as JSON text; several in one chunk are separated by commas. */
  readonly frames: readonly Buffer[];
  /** Where the peer is after them, and the channel's number in cursors. */
  readonly positions: ReadonlyMap<string, { readonly position: Position; readonly slot: number | undefined }>;
  /** What the next poll acknowledges. */
  readonly inbox: number;
  /** A newer poll of the connection took over. */
  readonly superseded: boolean;
}

/** What a peer wants of a new connection that outlives its links. */
export interface EstablishWish {
  /** What the peer calls itself. */
  readonly client: string | undefined;
  /** The channels to subscribe to, and where the peer is in them. */
  readonly channels: ReadonlyMap<string, Position | undefined>;
}

/** A new connection that outlives its links. */
export interface Established {
  /** What its links prove themselves by. */
  readonly pass: string;
  readonly connection: ResumedConnection;
  readonly connected: ConnectedData;
  readonly channels: Readonly<Record<string, SubscribeData | { readonly error: ErrorBody }>>;
  readonly responseHeaders: ResponseHeaders | undefined;
}

/** A read of channels without a connection. */
export interface ReadWish extends Omit<PollRequest, 'inbox'> {
  readonly channels: readonly string[];
}

/** What became of a sequence of frames. */
export interface SendAnswer {
  readonly seq: number;
  /** The answers, as the JSON text of an array. */
  readonly answers: string;
}

/** Whom a link tells of itself. */
export interface LinkPeer {
  /** What was written has been taken. */
  drained(): void;
  /** The link is gone. Called once. */
  ended(code: number, reason: string): void;
}

/** What a stream asks for. */
export interface StreamRequest {
  /** The frames of the inbox up to here have arrived. */
  readonly inbox: number;
  readonly positionOf: PositionOf;
  /** Writes the first bytes of the stream. Called once, before all else; `positions`: where its channels go on from. */
  begin(connected: ConnectedData, positions: ReadonlyMap<string, Position>): void;
}

/** A stream of a connection that outlives its links, as its transport uses it. */
export interface ResumedStream extends LinkPeer {
  /** Gives it its link. Rejects with a `RealtimeException` where it does not begin: nothing was written then. */
  start(link: Link, request: StreamRequest): Promise<void>;
  /** Ends it in order: the peer comes back to its connection. */
  finish(): void;
}

/** A connection that outlives its links, as a transport uses it. */
export interface ResumedConnection {
  readonly id: string;
  /** A new stream, which takes over from the link before once it is started. */
  stream(): ResumedStream;
  /** The number that a channel has in cursors. */
  slotOf(channel: string): number | undefined;
  /** The frames of the inbox up to here have arrived. */
  acknowledge(inbox: number): Promise<void>;
  /** The peer has had enough: the connection ends, on all nodes. */
  leave(): void;
  /** Waits for something to tell. Rejects with a `RealtimeException`; `gone` where the connection is over. */
  poll(request: PollRequest): Promise<PollAnswer>;
  /** Runs frames in order, at most once each. */
  sendFrames(seq: number, frames: readonly unknown[]): Promise<SendAnswer>;
}

/** The handshake of one request, for a transport that serves requests by itself. */
export interface Reception {
  /**
   * Takes a place for the request while its body is read; the returned function gives it back. Throws `draining`,
   * `origin_refused` or `too_many_connections`.
   */
  begin(): () => void;
  /** Makes a connection that outlives its links, by the handshake of every wire. */
  establish(wish: EstablishWish): Promise<Established>;
  /** Reads channels, by the handshake of every wire: without connection hooks, and nothing is left of it. */
  read(wish: ReadWish): Promise<PollAnswer>;
  /** Finds the connection of a pass. Rejects with `gone` where there is none any more. */
  resume(pass: string): Promise<ResumedConnection>;
}

/** A connection whose handshake was passed, as a transport uses it. */
export interface AdmittedConnection extends LinkPeer {
  readonly id: string;
  /** Headers for the response that accepts the peer, none that frame it; read them before `attach`. */
  readonly responseHeaders?: ResponseHeaders | undefined;
  /** What the peer calls itself (`client` of `$resume`, or of the query), set before `attach`. */
  introduce(client: string): void;
  /** Gives the connection its link. Connection hooks start, unless a token is still awaited. */
  attach(link: Link): void;
  /** Settles when the connection hooks have: rejects with a `RealtimeException` where one refused the peer. */
  readonly opened: Promise<void>;
  /**
   * Authorises and prepares a subscription; rejects with a `RealtimeException` if it is refused. The returned function
   * starts it and gives its answer, which has to be written in the same turn; what was missed follows after it.
   */
  prepare(channel: string, since: Position | undefined): Promise<() => SubscribeData>;
  /** The data of `$connected`. The connection sends it by itself where the wire carries plain frames. */
  connectedData(): ConnectedData;
  /** Ends the connection as the hub itself would: `$disconnect`, then `close` of the link. */
  disconnect(data: DisconnectData): void;
  /** A frame came, as text of so many bytes. */
  receive(text: string, bytes?: number): void;
  /** A frame of so many bytes could not be read: bad UTF-8. */
  receiveBad(bytes: number): void;
  /** The frame was larger than the limit. */
  receiveTooLarge(): void;
}
