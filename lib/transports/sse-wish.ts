import type { IncomingMessage } from 'node:http';
import type { RequestExchange } from '../hub/ports/transport.js';
import { MAX_CURSOR_LENGTH, parseCursor, type Cursor } from '../protocol/cursor.js';
import { RealtimeException } from '../protocol/errors.js';
import { readChannels, readClient } from './link-wish.js';
import type { SseFormat } from './sse-codec.js';

/** An item of a cursor at its longest, `!zz:epochs-9007199254740991-1z141z3`: slot, epoch, offset, and 32 bits of tag. */
const MAX_CURSOR_ITEM = 1 + 2 + 1 + 6 + 1 + 16 + 1 + 7;
/** Channels of a stream: as many as a cursor holds, wherever they are. */
export const MAX_STREAM_CHANNELS = Math.floor((MAX_CURSOR_LENGTH - '1~'.length) / MAX_CURSOR_ITEM);

/** Where the peer was, as far as it said. */
export interface SaidCursor {
  readonly cursor: Cursor | undefined;
  /** `ignored`: what came was no cursor. */
  readonly outcome: 'none' | 'used' | 'ignored';
}

/** What a request by GET asks for. */
export interface SseWish extends SaidCursor {
  readonly channels: readonly string[];
  readonly format: SseFormat;
  readonly client: string | undefined;
}

/** Reads a request. Throws `invalid` or `too_many_channels`. */
export function readSseWish(exchange: RequestExchange, maxChannels: number): SseWish {
  const { query } = exchange;
  const channels = readChannels(query, maxChannels, 'stream');
  const client = query.get('client') ?? undefined;
  const format = readFormat(query);
  return { channels, format, client: client === undefined ? undefined : readClient(client), ...readCursor(exchange) };
}

/** The form of a stream. Throws `invalid`. */
export function readFormat(query: URLSearchParams): SseFormat {
  const format = query.get('format') ?? 'native';
  if (format === 'native' || format === 'frames') return format;
  throw new RealtimeException('invalid', '"format" is "frames" or absent');
}

/** Where the peer was: the header of EventSource's own, else the query of a page that rebuilt a closed one. */
export function readCursor({
  request,
  query,
}: Readonly<{ request: IncomingMessage; query: URLSearchParams }>): SaidCursor {
  const text = request.headers['last-event-id'] ?? query.get('lastEventId') ?? '';
  const cursor = text === '' ? undefined : parseCursor(text);
  return { cursor, outcome: text === '' ? 'none' : cursor === undefined ? 'ignored' : 'used' };
}
