import type { Socket } from 'node:net';
import {
  RefusalError,
  type AdmittedConnection,
  type Reception,
  type Refusal,
  type RequestExchange,
  type ResumedConnection,
  type StreamRequest,
  type Transport,
  type TransportSettings,
} from '../hub/ports/transport.js';
import {
  CLOSE_GOING_AWAY,
  errorRow,
  isErrorCode,
  isRealtimeException,
  RealtimeException,
  retryAfterClose,
} from '../protocol/errors.js';
import type { SubscribeData } from '../protocol/frames.js';
import type { Position } from '../protocol/position.js';
import { receiveJson } from './body.js';
import { whenOver } from './departure.js';
import { MAX_WISH_BYTES, readLinkWish, type LinkWish } from './link-wish.js';
import { acceptsOnlyEventStream } from './refusal.js';
import { addHeaders } from './response-headers.js';
import { RecordSlots, type SseCodec } from './sse-codec.js';
import { SseCodecs } from './sse-codecs.js';
import { SseLink, type SseLinkOwner, type SseLinkParts } from './sse-link.js';
import { MAX_STREAM_CHANNELS, readCursor, readFormat, readSseWish, type SseWish } from './sse-wish.js';

/** How streams behave. */
export interface SseOptions {
  /** After how long a peer comes back to a stream that ended, ms; told with a jitter of a quarter. @defaultValue 2_000 */
  retryMs?: number;
  /**
   * How long a stream lives, ms, with a jitter of a tenth: then it ends in order and the peer comes back with its
   * cursor, as proxies cut what is open for too long, and memory of old streams is given back. @defaultValue 600_000
   */
  rotateMs?: number;
}

/** A stream of a connection with a record: where its peer is, and what is written first. */
interface RecordWish extends Pick<StreamRequest, 'inbox' | 'positionOf'> {
  readonly begin: (link: SseLink, ...args: Parameters<StreamRequest['begin']>) => void;
}

/** Channels of a stream that are authorised at once. */
const PREPARE_CONCURRENCY = 8;
const SWEEPS_PER_ROTATION = 50;
const MAX_SWEEP_MS = 5_000;

/**
 * Server-sent events at `{path}/sse`: by GET for an EventSource, a connection that lives as long as its link; with a pass,
 * in the cursor or in the body of a POST, a link of a connection that outlives it and that sends by `{path}/send`.
 */
class SseTransport implements Transport, SseLinkOwner {
  readonly name = 'sse';
  readonly subpath = 'sse';
  readonly methods = ['GET', 'POST'];
  readonly takesFrames = true;
  readonly #retryMs: number;
  readonly #rotateMs: number;
  readonly #links = new Set<SseLink>();
  readonly #codecs = new SseCodecs();
  #sweep: NodeJS.Timeout | undefined;
  #maxChannels = MAX_STREAM_CHANNELS;
  #maxPositions = Infinity;

  constructor({ retryMs = 2_000, rotateMs = 600_000 }: SseOptions) {
    this.#retryMs = required('retryMs', retryMs, 1);
    this.#rotateMs = required('rotateMs', rotateMs, 100);
  }

  open({ maxChannels }: TransportSettings): void {
    this.#maxChannels = Math.min(MAX_STREAM_CHANNELS, maxChannels);
    this.#maxPositions = maxChannels;
  }

  async request(exchange: RequestExchange, connection: AdmittedConnection): Promise<void> {
    const wish = readSseWish(exchange, this.#maxChannels);
    if (wish.client !== undefined) connection.introduce(wish.client);
    const socket = bareSocket(exchange);
    const codec = this.#codecs.take(wish.channels, { format: wish.format, chunked: socket !== undefined });
    const rotate = (): void => connection.disconnect({ code: CLOSE_GOING_AWAY, reason: 'rotated', reconnect: true });
    const link = this.#link({ exchange, peer: connection, codec, socket, rotate });
    connection.attach(link);
    try {
      await connection.opened;
      this.#start(link, connection, wish, await prepare(connection, wish));
    } catch (error) {
      // The hub ended the connection meanwhile: its reason says more than that it is gone.
      const gone = isRealtimeException(error) && error.code === 'gone';
      throw gone && link.closedBy !== undefined ? new RefusalError(refusalOfClose(link.closedBy)) : error;
    }
  }

  serves(exchange: RequestExchange): boolean {
    return exchange.request.method === 'POST' || readCursor(exchange).cursor?.pass !== undefined;
  }

  async serve(exchange: RequestExchange, reception: Reception): Promise<void> {
    if (exchange.request.method === 'GET') return this.#goOn(exchange, reception);
    const wish = readLinkWish(await receiveJson(exchange.request, reception, MAX_WISH_BYTES), this.#maxPositions);
    if (wish.pass === undefined) return this.#establish(exchange, reception, wish);
    const connection = await reception.resume(wish.pass);
    return this.#stream(exchange, connection, {
      inbox: wish.inbox,
      positionOf: (channel) => wish.positions.get(channel),
    });
  }

  /**
   * An EventSource takes any status but 200 as the end of all: where coming back helps, it is told to. It does not with
   * too many channels: the next request would be the same.
   */
  refuseRequest({ request, response }: RequestExchange, { status, error }: Refusal): boolean {
    const passing = (status === 429 || status === 503) && error.code !== 'too_many_channels';
    if (!passing || !acceptsOnlyEventStream(request)) return false;
    const retryMs = error.retryAfterMs ?? this.#retryMs;
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
    response.end(`retry: ${jitter(retryMs, 0.25)}\n\n`);
    return true;
  }

  /** The hub ended a link that has no stream yet. Where a hook refused, `request` tells more, and within this turn. */
  refused({ parts, closedBy }: SseLink): void {
    setImmediate(() => parts.exchange.refuse(refusalOfClose(closedBy!)));
  }

  ended(link: SseLink): void {
    this.#links.delete(link);
    this.#codecs.give(link.codec);
    if (this.#links.size > 0) return;
    clearInterval(this.#sweep);
    this.#sweep = undefined;
  }

  close(): void {
    for (const link of this.#links) link.terminate();
  }

  #link(parts: Omit<SseLinkParts, 'rotateAt'>): SseLink {
    const link = new SseLink({ ...parts, rotateAt: Date.now() + jitter(this.#rotateMs, 0.1) }, this);
    this.#links.add(link);
    const sweepMs = Math.min(MAX_SWEEP_MS, Math.ceil(this.#rotateMs / SWEEPS_PER_ROTATION));
    this.#sweep ??= setInterval(() => this.#rotate(), sweepMs).unref();
    return link;
  }

  /** Starts the subscriptions and, in the same turn, the stream. */
  #start(
    link: SseLink,
    connection: AdmittedConnection,
    { outcome: cursor, format, channels: names }: SseWish,
    begins: readonly (() => SubscribeData)[],
  ): void {
    const { codec } = link;
    const channels = Object.create(null) as Record<string, SubscribeData>;
    begins.forEach((begin, slot) => (channels[names[slot]!] = begin()));
    const connected = connection.connectedData();
    const data = format === 'frames' ? connected : { connection: connected.connection };
    this.#open(link, { ...data, cursor, channels }, codec.slots.begin(new Map(positionsOf(channels))));
  }

  #open(link: SseLink, data: Readonly<Record<string, unknown>>, cursor: string | undefined): void {
    link.start(link.codec.opening(data, cursor, jitter(this.#retryMs, 0.25)));
  }

  /** Makes a connection that outlives its links, and its first stream. */
  async #establish(exchange: RequestExchange, reception: Reception, { client, positions }: LinkWish): Promise<void> {
    let gone = false;
    whenOver(exchange, () => (gone = true));
    const { pass, connection, channels, responseHeaders } = await reception.establish({ client, channels: positions });
    try {
      if (gone) throw new RealtimeException('gone');
      addHeaders(exchange.response, responseHeaders);
      await this.#stream(exchange, connection, { inbox: 0, positionOf: () => undefined }, { pass, channels });
    } catch (error) {
      connection.leave(); // nobody was told its pass
      throw error;
    }
  }

  /** Goes on with a connection, for the library. */
  #stream(
    exchange: RequestExchange,
    connection: ResumedConnection,
    at: Pick<StreamRequest, 'inbox' | 'positionOf'>,
    first: object = {},
  ): Promise<void> {
    const codec = (socket: Socket | undefined): SseCodec => this.#codecs.bare(socket !== undefined);
    return this.#begin(exchange, connection, codec, {
      ...at,
      begin: (link, connected) => this.#open(link, { ...connected, ...first }, undefined),
    });
  }

  /** Goes on with a connection by a cursor that has its pass. */
  async #goOn(exchange: RequestExchange, reception: Reception): Promise<void> {
    const { cursor } = readCursor(exchange);
    const { pass, inbox = 0, positions } = cursor!;
    const format = readFormat(exchange.query);
    const connection = await reception.resume(pass!);
    const slots = new RecordSlots(pass!, inbox, (channel) => connection.slotOf(channel));
    const codec = (socket: Socket | undefined): SseCodec =>
      this.#codecs.own({ format, chunked: socket !== undefined }, slots);
    await this.#begin(exchange, connection, codec, {
      inbox,
      positionOf: (_channel, slot) => (slot === undefined ? undefined : positions.get(slot)),
      begin: (link, connected, at) => {
        const channels = Object.fromEntries([...at].map(([channel, position]) => [channel, { position }]));
        const data = format === 'frames' ? connected : { connection: connected.connection };
        this.#open(link, { ...data, cursor: 'used', channels }, slots.begin(at));
      },
    });
  }

  async #begin(
    exchange: RequestExchange,
    connection: ResumedConnection,
    codecOf: (socket: Socket | undefined) => SseCodec,
    { inbox, positionOf, begin }: RecordWish,
  ): Promise<void> {
    const socket = bareSocket(exchange);
    const stream = connection.stream();
    const rotate = (): void => stream.finish();
    const link = this.#link({ exchange, peer: stream, codec: codecOf(socket), socket, rotate });
    await stream.start(link, { inbox, positionOf, begin: (...args) => begin(link, ...args) });
  }

  #rotate(): void {
    const now = Date.now();
    for (const { parts } of this.#links) {
      if (parts.rotateAt <= now) parts.rotate();
    }
  }
}

/** Reaches peers by server-sent events, at `{path}/sse`; what they send comes to `{path}/send`. */
export function sse(options: SseOptions = {}): Transport {
  return new SseTransport(options);
}

/** Authorises the channels, some at once; the first that is refused refuses the request. */
async function prepare(
  connection: AdmittedConnection,
  { channels, cursor }: SseWish,
): Promise<(() => SubscribeData)[]> {
  const begins: (() => SubscribeData)[] = [];
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < channels.length) {
      const slot = next++;
      const channel = channels[slot]!;
      try {
        begins[slot] = await connection.prepare(channel, cursor?.positions.get(slot));
      } catch (error) {
        next = channels.length;
        throw ofChannel(error, channel);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(PREPARE_CONCURRENCY, channels.length) }, work));
  return begins;
}

/** Tells which channel was refused, so that a client can go on without it. */
function ofChannel(error: unknown, channel: string): unknown {
  if (!isRealtimeException(error) || errorRow(error.code).retry === 'yes' || 'refusal' in error) return error;
  const { code, message, details = {} } = error;
  if (typeof details !== 'object' || details === null || Array.isArray(details)) return error;
  return new RealtimeException(code, message, { ...details, channel });
}

/** The socket to which ready chunks may be written: of HTTP/1.1, where no earlier response is under way. */
function bareSocket({ request, response }: RequestExchange): Socket | undefined {
  return request.httpVersion === '1.1' ? (response.socket ?? undefined) : undefined;
}

function refusalOfClose({ code, reason }: { code: number; reason: string }): Refusal {
  const known = isErrorCode(reason) ? reason : retryAfterClose(code) === 'yes' ? 'draining' : 'forbidden';
  const { http = 500, message } = errorRow(known);
  return { status: http, error: { code: known, message } };
}

function positionsOf(answers: Readonly<Record<string, SubscribeData>>): [channel: string, position: Position][] {
  return Object.entries(answers).map(([channel, { position }]) => [channel, position]);
}

function jitter(ms: number, share: number): number {
  return Math.round(ms * (1 - share + 2 * share * Math.random()));
}

function required(name: string, value: number, min: number): number {
  if (Number.isInteger(value) && value >= min && value <= 2 ** 31 - 1) return value;
  throw new TypeError(`sse(): "${name}" is an integer from ${min} to ${2 ** 31 - 1}`);
}
