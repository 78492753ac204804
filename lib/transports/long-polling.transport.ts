import type {
  PollAnswer,
  PollRequest,
  PositionOf,
  Reception,
  RequestExchange,
  Transport,
  TransportSettings,
} from '../hub/ports/transport.js';
import { formatCursor, parseCursor } from '../protocol/cursor.js';
import { encodeEvent, toJson } from '../protocol/encode.js';
import { RealtimeException } from '../protocol/errors.js';
import { parsePosition, type Position } from '../protocol/position.js';
import { answerJson, readJson } from './body.js';
import { whenOver } from './departure.js';
import { addHeaders } from './response-headers.js';
import { MAX_STREAM_CHANNELS } from './sse.transport.js';

/** How polls behave. */
export interface LongPollingOptions {
  /**
   * How long a poll waits for something to tell, ms: past it it is answered with nothing, and the peer polls again. Below
   * what proxies on the way allow a response to take, as a rule 60 s. At most 25,000. @defaultValue 25_000
   */
  holdMs?: number;
}

const MAX_HOLD_MS = 25_000;
/** The body of a poll: the positions of as many channels as a connection may have. */
const MAX_BODY_BYTES = 64 * 1024;
const MAX_CLIENT_LENGTH = 64;

/** Long polling at `{path}/poll`: for networks that let nothing else through; any node serves any poll. */
class LongPollingTransport implements Transport {
  readonly name = 'long-polling';
  readonly subpath = 'poll';
  readonly methods = ['GET', 'POST'];
  readonly takesFrames = true;
  readonly #holdMs: number;
  #maxChannels = MAX_STREAM_CHANNELS;
  #maxPositions = Infinity;

  constructor({ holdMs = MAX_HOLD_MS }: LongPollingOptions) {
    if (!Number.isInteger(holdMs) || holdMs < 1 || holdMs > MAX_HOLD_MS) {
      throw new TypeError(`longPolling(): "holdMs" is an integer from 1 to ${MAX_HOLD_MS}`);
    }
    this.#holdMs = holdMs;
  }

  open({ maxChannels }: TransportSettings): void {
    this.#maxChannels = Math.min(MAX_STREAM_CHANNELS, maxChannels);
    this.#maxPositions = maxChannels;
  }

  serve(exchange: RequestExchange, reception: Reception): Promise<void> {
    return exchange.request.method === 'GET' ? this.#read(exchange, reception) : this.#poll(exchange, reception);
  }

  close(): void {
    return; // waiting polls are the hub's, and answered when it drains
  }

  /** A poll of the library: of a connection, by its pass, or the one that makes it. */
  async #poll(exchange: RequestExchange, reception: Reception): Promise<void> {
    const { request, response } = exchange;
    const release = reception.begin();
    let body: Record<string, unknown>;
    try {
      body = await readJson(request, MAX_BODY_BYTES);
    } finally {
      release();
    }
    const positions = readPositions(body.positions, this.#maxPositions);
    if (body.pass === undefined) {
      const { pass, connected, channels, responseHeaders } = await reception.establish({
        client: readClient(body.client),
        channels: positions,
      });
      addHeaders(response, responseHeaders);
      const frame = encodeEvent('$connected', { ...connected, channels });
      const at = Object.entries(channels).flatMap(([channel, answer]) => {
        return 'error' in answer ? [] : [[channel, answer.position]];
      });
      const rest = { pass, positions: Object.fromEntries(at) as object, inbox: 0 };
      answerJson(response, 201, [`{"frames":[${frame}],${toJson(rest).slice(1)}`]);
      return;
    }
    const connection = await reception.resume(readText('pass', body.pass));
    const answer = await connection.poll(
      this.#requestOf(exchange, readInbox(body.inbox), (channel) => positions.get(channel)),
    );
    this.#answer(exchange, answer, {
      positions: Object.fromEntries([...answer.positions].map(([channel, { position }]) => [channel, position])),
      inbox: answer.inbox,
    });
  }

  /** A poll written by hand: of channels that the URL names, or of a connection whose pass its cursor has. */
  async #read(exchange: RequestExchange, reception: Reception): Promise<void> {
    const { query } = exchange;
    const text = query.get('cursor') ?? '';
    const cursor = text === '' ? undefined : parseCursor(text);
    const positionOf = (_channel: string, slot: number | undefined): Position | undefined =>
      slot === undefined ? undefined : cursor?.positions.get(slot);
    const ignored = text !== '' && cursor === undefined ? { ignored: true } : {};
    if (cursor?.pass !== undefined) {
      const inbox = readInbox(query.has('inbox') ? Number(query.get('inbox')) : undefined);
      const connection = await reception.resume(cursor.pass);
      const answer = await connection.poll(this.#requestOf(exchange, inbox, positionOf));
      this.#answer(exchange, answer, { cursor: cursorOf(answer, cursor), inbox: answer.inbox });
      return;
    }
    const channels = readChannels(query, this.#maxChannels);
    const { positionOf: _, ...request } = this.#requestOf(exchange, 0, positionOf);
    const answer = await reception.read({ ...request, positionOf, channels });
    this.#answer(exchange, answer, { cursor: cursorOf(answer, cursor), ...ignored });
  }

  #requestOf(exchange: RequestExchange, inbox: number, positionOf: PositionOf): PollRequest {
    const onGone = (act: () => void): void => whenOver(exchange, act);
    return { inbox, positionOf, holdMs: this.#holdMs, onGone };
  }

  #answer({ response }: RequestExchange, { frames, superseded }: PollAnswer, rest: object): void {
    const members = toJson(superseded ? { ...rest, superseded } : rest);
    const parts: (Buffer | string)[] = ['{"frames":['];
    frames.forEach((frame, i) => parts.push(...(i === 0 ? [frame] : [',', frame])));
    parts.push(`],${members.slice(1)}`);
    answerJson(response, 200, parts);
  }
}

/** Reaches peers by long polling, at `{path}/poll`; what they send comes to `{path}/send`. */
export function longPolling(options: LongPollingOptions = {}): Transport {
  return new LongPollingTransport(options);
}

/** Where the peer is after an answer; what it said stays where the answer says nothing. */
function cursorOf({ positions, superseded }: PollAnswer, cursor: ReturnType<typeof parseCursor>): string {
  const at = new Map(superseded ? cursor?.positions : []);
  for (const { slot, position } of positions.values()) if (slot !== undefined) at.set(slot, position);
  return formatCursor(at, cursor?.pass);
}

function readPositions(value: unknown, max: number): Map<string, Position | undefined> {
  const positions = new Map<string, Position | undefined>();
  if (value === undefined) return positions;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new RealtimeException('invalid', '"positions" is an object');
  }
  const entries = Object.entries(value as Record<string, unknown>);
  if (entries.length > max) throw new RealtimeException('too_many_channels', `At most ${max} channels per connection`);
  for (const [channel, position] of entries) {
    if (position !== null && parsePosition(position) === undefined) {
      throw new RealtimeException('invalid', 'A position is what an answer told, or null');
    }
    positions.set(channel, (position as Position | null) ?? undefined);
  }
  return positions;
}

function readChannels(query: URLSearchParams, max: number): string[] {
  const channels = query.getAll('channels').join(',').split(',');
  if (channels.includes('') || new Set(channels).size < channels.length) {
    throw new RealtimeException('invalid', '"channels" names each channel once, separated by commas');
  }
  if (channels.length <= max) return channels;
  throw new RealtimeException('too_many_channels', `At most ${max} channels per poll`);
}

/** The number of the newest frame that has arrived; 0: none. Throws `invalid`. */
export function readInbox(value: unknown): number {
  if (value === undefined) return 0;
  if (Number.isSafeInteger(value) && (value as number) >= 0) return value as number;
  throw new RealtimeException('invalid', '"inbox" is the number that the last answer told');
}

function readClient(value: unknown): string | undefined {
  if (value === undefined) return undefined;
  const client = readText('client', value);
  if (client !== '' && client.length <= MAX_CLIENT_LENGTH) return client;
  throw new RealtimeException('invalid', `"client" is text of 1 to ${MAX_CLIENT_LENGTH} characters`);
}

/** Throws `invalid` for all but text. */
export function readText(name: string, value: unknown): string {
  if (typeof value === 'string') return value;
  throw new RealtimeException('invalid', `"${name}" is text`);
}
