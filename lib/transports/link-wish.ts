import { RealtimeException } from '../protocol/errors.js';
import { parsePosition, type Position } from '../protocol/position.js';

/** The body of a poll, or of what asks for a stream: the positions of as many channels as a connection may have. */
export const MAX_WISH_BYTES = 64 * 1024;
const MAX_CLIENT_LENGTH = 64;

/** What the library asks for a link with. */
export interface LinkWish {
  /** Of which connection; without it a new one is made. */
  readonly pass: string | undefined;
  readonly client: string | undefined;
  /** The frames of the inbox up to here have arrived. */
  readonly inbox: number;
  readonly positions: ReadonlyMap<string, Position | undefined>;
}

/** Reads `{ pass?, client?, inbox?, positions? }`. Throws `invalid` or `too_many_channels`. */
export function readLinkWish(body: Record<string, unknown>, maxChannels: number): LinkWish {
  const { pass, client, inbox, positions } = body;
  return {
    positions: readPositions(positions, maxChannels),
    pass: pass === undefined ? undefined : readText('pass', pass),
    client: client === undefined ? undefined : readClient(client),
    inbox: readInbox(inbox),
  };
}

/** The channels that a query names, each once. Throws `invalid` or `too_many_channels`. */
export function readChannels(query: URLSearchParams, max: number, of: string): string[] {
  const channels = query.getAll('channels').join(',').split(',');
  if (channels.includes('') || new Set(channels).size < channels.length) {
    throw new RealtimeException('invalid', '"channels" names each channel once, separated by commas');
  }
  if (channels.length <= max) return channels;
  throw new RealtimeException('too_many_channels', `At most ${max} channels per ${of}`);
}

/** The number of the newest frame that has arrived; 0: none. Throws `invalid`. */
export function readInbox(value: unknown): number {
  if (value === undefined) return 0;
  if (Number.isSafeInteger(value) && (value as number) >= 0) return value as number;
  throw new RealtimeException('invalid', '"inbox" is the number that the last answer told');
}

/** What a peer calls itself. Throws `invalid`. */
export function readClient(value: unknown): string {
  const client = readText('client', value);
  if (client !== '' && client.length <= MAX_CLIENT_LENGTH) return client;
  throw new RealtimeException('invalid', `"client" is text of 1 to ${MAX_CLIENT_LENGTH} characters`);
}

/** Throws `invalid` for all but text. */
export function readText(name: string, value: unknown): string {
  if (typeof value === 'string') return value;
  throw new RealtimeException('invalid', `"${name}" is text`);
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
