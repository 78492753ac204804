import { RealtimeException } from '../protocol/errors.js';
import { parsePosition, type Position } from '../protocol/position.js';
import type { BrokerSession, StoredItem } from './ports/broker.js';

const MAX_HISTORY_ITEMS = 1000;
const HISTORY_ITEMS = 100;
/** How much of a history one answer holds, in characters of event and data. */
const MAX_HISTORY_LENGTH = 256 * 1024;

/** What is asked of a channel's history, checked. */
export interface HistoryQuery {
  readonly since?: Position;
  readonly limit: number;
  readonly reverse: boolean;
}

/** A part of a channel's history, and the channel's position. */
export interface History {
  readonly position: Position;
  readonly items: readonly StoredItem[];
}

/** Checks what is asked of a history. Throws `invalid`. */
export function historyQuery(since: unknown, limit: unknown = HISTORY_ITEMS, reverse: unknown = false): HistoryQuery {
  if (!Number.isInteger(limit) || (limit as number) < 1 || (limit as number) > MAX_HISTORY_ITEMS) {
    throw new RealtimeException('invalid', `"limit" is an integer from 1 to ${MAX_HISTORY_ITEMS}`);
  }
  if (typeof reverse !== 'boolean') throw new RealtimeException('invalid', '"reverse" is a boolean');
  const from = parseSince(since);
  return { limit: limit as number, reverse, ...(from === undefined ? {} : { since: from }) };
}

/** Reads a channel's history. Rejects with `position_lost` for a position that is not in it. */
export async function readHistory(
  session: BrokerSession,
  channel: string,
  { since, limit, reverse }: HistoryQuery,
): Promise<History> {
  if (since === undefined) {
    const { top, items } = await session.newest(channel, limit);
    return { position: top, items: reverse ? items.toReversed() : items };
  }
  const { status, top, items } = await session.read(channel, since, reverse ? 0 : limit);
  if (status !== 'ok') throw new RealtimeException('position_lost', undefined, { position: top });
  if (!reverse) return { position: top, items };
  const newest = await session.newest(channel, limit);
  const from = parsePosition(since)!.offset;
  return { position: newest.top, items: newest.items.filter((item) => item.offset > from).reverse() };
}

/** The answer to `$history`, as JSON: as much as fits in one. */
export function encodeHistory({ position, items }: History, query: HistoryQuery): string {
  const ends = query.since === undefined && !query.reverse ? 'newest' : 'first';
  const publications = withinBytes(items, ends).map(
    (item) => `{"event":${JSON.stringify(item.event)},"data":${item.data},"offset":${item.offset},"tag":"${item.tag}"}`,
  );
  return `{"position":"${position}","publications":[${publications.join(',')}]}`;
}

/** Reads a position that a peer names, or none. Throws `invalid`. */
export function parseSince(since: unknown): Position | undefined {
  if (since === undefined || since === null) return undefined;
  if (typeof since === 'string') return since;
  throw new RealtimeException('invalid', 'A position is text');
}

/** The first or the newest items that fit in an answer, at least one. */
function withinBytes(items: readonly StoredItem[], keep: 'first' | 'newest'): readonly StoredItem[] {
  const sizeOf = (index: number): number => {
    const { event, data } = items[keep === 'first' ? index : items.length - 1 - index]!;
    return event.length + data.length;
  };
  let count = 0;
  for (let bytes = 0; count < items.length; count++) {
    bytes += sizeOf(count);
    if (bytes > MAX_HISTORY_LENGTH && count > 0) break;
  }
  return keep === 'first' ? items.slice(0, count) : items.slice(items.length - count);
}
