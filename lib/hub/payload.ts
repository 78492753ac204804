import { formatPosition, type Position } from '../protocol/position.js';
import type { ReadResult, StoredItem } from './ports/broker.js';
import type { RunItem } from './ports/link.js';

/*
 * Large publications. The log has them whole; subscribers get the place where each lies, and fetch it by a request of its
 * own, so that what follows does not wait for it. The place is the position before it: what follows that in the log.
 */

/** How the data of a reference begins. Nobody can publish such data. */
const PREFIX = '{"$payload":';

/** Whether data, as JSON text, stands for data that lies elsewhere. */
export function isReference(data: string): boolean {
  return data.startsWith(PREFIX);
}

/** Puts a reference in the place of data of more than `inlineBytes`. */
export function carry(item: RunItem, epoch: string, inlineBytes: number): RunItem {
  const { data, offset, prevTag } = item;
  if (data.length * MAX_BYTES_PER_UNIT <= inlineBytes) return item;
  const bytes = Buffer.byteLength(data);
  if (bytes <= inlineBytes) return item;
  const since = formatPosition(epoch, offset - 1, prevTag);
  return { ...item, data: `${PREFIX}${JSON.stringify({ since, bytes })}}` };
}

/** Of UTF-8, of a UTF-16 code unit. */
const MAX_BYTES_PER_UNIT = 3;

/** The publication that a reference stands for; `undefined` where it is no longer in the log. */
export async function fetchReferred(
  data: string,
  read: (since: Position, limit: number) => Promise<ReadResult>,
): Promise<StoredItem | undefined> {
  const { $payload } = JSON.parse(data) as { $payload: { since: Position } };
  const { items } = await read($payload.since, 1);
  return items[0];
}
