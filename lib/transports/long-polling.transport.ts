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
import type { Position } from '../protocol/position.js';
import { answerJson, receiveJson } from './body.js';
import { whenOver } from './departure.js';
import { MAX_WISH_BYTES, readChannels, readInbox, readLinkWish } from './link-wish.js';
import { addHeaders } from './response-headers.js';
import { MAX_STREAM_CHANNELS } from './sse-wish.js';

/** How polls behave. */
export interface LongPollingOptions {
  /**
   * How long a poll waits for something to tell, ms: past it it is answered with nothing, and the peer polls again. Below
   * what proxies on the way allow a response to take, as a rule 60 s. At most 25,000. @defaultValue 25_000
   */
  holdMs?: number;
}

const MAX_HOLD_MS = 25_000;

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
    const wish = readLinkWish(await receiveJson(request, reception, MAX_WISH_BYTES), this.#maxPositions);
    if (wish.pass === undefined) {
      const { pass, connected, channels, responseHeaders } = await reception.establish({
        client: wish.client,
        channels: wish.positions,
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
    const connection = await reception.resume(wish.pass);
    const positionOf = (channel: string): Position | undefined => wish.positions.get(channel);
    const answer = await connection.poll(this.#requestOf(exchange, wish.inbox, positionOf));
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
      const inbox = query.has('inbox') ? readInbox(Number(query.get('inbox'))) : (cursor.inbox ?? 0);
      const connection = await reception.resume(cursor.pass);
      const answer = await connection.poll(this.#requestOf(exchange, inbox, positionOf));
      this.#answer(exchange, answer, { cursor: cursorOf(answer, cursor), inbox: answer.inbox });
      return;
    }
    const channels = readChannels(query, this.#maxChannels, 'poll');
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
function cursorOf({ positions, inbox, superseded }: PollAnswer, cursor: ReturnType<typeof parseCursor>): string {
  const at = new Map(superseded ? cursor?.positions : []);
  for (const { slot, position } of positions.values()) if (slot !== undefined) at.set(slot, position);
  return formatCursor(at, cursor?.pass, superseded ? cursor?.inbox : inbox);
}
