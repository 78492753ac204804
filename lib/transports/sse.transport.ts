import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import {
  RefusalError,
  type AdmittedConnection,
  type Refusal,
  type RequestExchange,
  type Transport,
  type TransportSettings,
} from '../hub/ports/transport.js';
import { MAX_CURSOR_LENGTH, parseCursor } from '../protocol/cursor.js';
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
import { acceptsOnlyEventStream } from './refusal.js';
import type { SseFormat } from './sse-codec.js';
import { SseCodecs } from './sse-codecs.js';
import { SseLink, type SseLinkOwner } from './sse-link.js';

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

/** What a request asks for. */
interface Wish {
  readonly channels: readonly string[];
  readonly format: SseFormat;
  readonly client: string | undefined;
  readonly cursor: 'none' | 'used' | 'ignored';
  readonly positions: ReadonlyMap<number, Position>;
}

/** An item of a cursor at its longest, `!zz:epochs-9007199254740991-1z141z3`: slot, epoch, offset, and 32 bits of tag. */
const MAX_CURSOR_ITEM = 1 + 2 + 1 + 6 + 1 + 16 + 1 + 7;
/** Channels of a stream: as many as a cursor holds, wherever they are. */
export const MAX_STREAM_CHANNELS = Math.floor((MAX_CURSOR_LENGTH - '1~'.length) / MAX_CURSOR_ITEM);
/** Channels of a stream that are authorised at once. */
const PREPARE_CONCURRENCY = 8;
const MAX_CLIENT_LENGTH = 64;
const SWEEPS_PER_ROTATION = 50;
const MAX_SWEEP_MS = 5_000;

/** Server-sent events at `{path}/sse`: one-way, for a bare EventSource and for the client library. */
class SseTransport implements Transport, SseLinkOwner {
  readonly name = 'sse';
  readonly subpath = 'sse';
  readonly methods = ['GET'];
  readonly #retryMs: number;
  readonly #rotateMs: number;
  readonly #links = new Set<SseLink>();
  readonly #codecs = new SseCodecs();
  #sweep: NodeJS.Timeout | undefined;
  #maxChannels = MAX_STREAM_CHANNELS;

  constructor({ retryMs = 2_000, rotateMs = 600_000 }: SseOptions) {
    this.#retryMs = required('retryMs', retryMs, 1);
    this.#rotateMs = required('rotateMs', rotateMs, 100);
  }

  open({ maxChannels }: TransportSettings): void {
    this.#maxChannels = Math.min(MAX_STREAM_CHANNELS, maxChannels);
  }

  async request(exchange: RequestExchange, connection: AdmittedConnection): Promise<void> {
    const wish = readWish(exchange, this.#maxChannels);
    if (wish.client !== undefined) connection.introduce(wish.client);
    const link = this.#link(exchange, connection, wish);
    connection.attach(link);
    try {
      await connection.opened;
      this.#start(link, wish, await prepare(connection, wish));
    } catch (error) {
      // The hub ended the connection meanwhile: its reason says more than that it is gone.
      const gone = isRealtimeException(error) && error.code === 'gone';
      throw gone && link.closedBy !== undefined ? new RefusalError(refusalOfClose(link.closedBy)) : error;
    }
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

  #link(exchange: RequestExchange, connection: AdmittedConnection, { channels, format }: Wish): SseLink {
    const socket = bareSocket(exchange);
    const codec = this.#codecs.take(channels, { format, chunked: socket !== undefined });
    const rotateAt = Date.now() + jitter(this.#rotateMs, 0.1);
    const link = new SseLink({ exchange, connection, codec, socket, rotateAt }, this);
    this.#links.add(link);
    const sweepMs = Math.min(MAX_SWEEP_MS, Math.ceil(this.#rotateMs / SWEEPS_PER_ROTATION));
    this.#sweep ??= setInterval(() => this.#rotate(), sweepMs).unref();
    return link;
  }

  /** Starts the subscriptions and, in the same turn, the stream. */
  #start(link: SseLink, { cursor, format, channels: names }: Wish, begins: readonly (() => SubscribeData)[]): void {
    const { connection, codec } = link.parts;
    const channels = Object.create(null) as Record<string, SubscribeData>;
    begins.forEach((begin, slot) => (channels[names[slot]!] = begin()));
    const connected = connection.connectedData();
    const data = format === 'frames' ? connected : { connection: connected.connection };
    const first = { ...data, cursor, channels };
    link.start(codec.opening(first, codec.slots.begin(channels), jitter(this.#retryMs, 0.25)));
  }

  #rotate(): void {
    const now = Date.now();
    for (const { parts } of this.#links) {
      if (parts.rotateAt > now) continue;
      parts.connection.disconnect({ code: CLOSE_GOING_AWAY, reason: 'rotated', reconnect: true });
    }
  }
}

/** Reaches peers by server-sent events, at `{path}/sse?channels=a,b`. */
export function sse(options: SseOptions = {}): Transport {
  return new SseTransport(options);
}

/** Reads a request. Throws `invalid` or `too_many_channels`. */
function readWish({ request, query }: RequestExchange, maxChannels: number): Wish {
  const channels = query.getAll('channels').join(',').split(',');
  if (channels.includes('') || new Set(channels).size < channels.length) {
    throw new RealtimeException('invalid', '"channels" names each channel once, separated by commas');
  }
  if (channels.length > maxChannels) {
    throw new RealtimeException('too_many_channels', `At most ${maxChannels} channels per stream`);
  }
  const format = query.get('format') ?? 'native';
  if (format !== 'native' && format !== 'frames') {
    throw new RealtimeException('invalid', '"format" is "frames" or absent');
  }
  const client = query.get('client') ?? undefined;
  if (client !== undefined && (client === '' || client.length > MAX_CLIENT_LENGTH)) {
    throw new RealtimeException('invalid', `"client" is text of 1 to ${MAX_CLIENT_LENGTH} characters`);
  }
  return { channels, format, client, ...readCursor(request, query) };
}

/** Where the peer was: the header of EventSource's own, else the query of a page that rebuilt a closed one. */
function readCursor(request: IncomingMessage, query: URLSearchParams): Pick<Wish, 'cursor' | 'positions'> {
  const header = request.headers['last-event-id'];
  const text = header ?? query.get('lastEventId') ?? '';
  const cursor = text === '' ? undefined : parseCursor(text);
  const positions = cursor?.positions ?? new Map<number, Position>();
  return { cursor: text === '' ? 'none' : cursor === undefined ? 'ignored' : 'used', positions };
}

/** Authorises the channels, some at once; the first that is refused refuses the request. */
async function prepare(
  connection: AdmittedConnection,
  { channels, positions }: Wish,
): Promise<(() => SubscribeData)[]> {
  const begins: (() => SubscribeData)[] = [];
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < channels.length) {
      const slot = next++;
      const channel = channels[slot]!;
      try {
        begins[slot] = await connection.prepare(channel, positions.get(slot));
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

function jitter(ms: number, share: number): number {
  return Math.round(ms * (1 - share + 2 * share * Math.random()));
}

function required(name: string, value: number, min: number): number {
  if (Number.isInteger(value) && value >= min && value <= 2 ** 31 - 1) return value;
  throw new TypeError(`sse(): "${name}" is an integer from ${min} to ${2 ** 31 - 1}`);
}
