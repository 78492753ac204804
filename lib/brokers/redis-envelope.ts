import type { Envelope } from '../hub/ports/broker.js';

/*
 * An announcement on pub/sub: a header line `1 epoch firstOffset tag prevOffset-prevTag count (eventLength dataLength
 * excludeLength)… [note]`, then the parts, raw. Lengths count bytes of UTF-8, as the script that adds the header sees them.
 * Data is JSON text from the publisher to the peers' sockets: nobody on the way parses it.
 */

/** What the header's version says. A node ignores what it cannot read; the periodic check finds what it missed. */
const VERSION = '1';
const SPACE = 0x20;
const NEWLINE = 0x0a;

type Part = Envelope['items'][number];

/** The parts of an envelope that the publisher knows before the append. */
export interface EnvelopeParts {
  /** `eventLength dataLength excludeLength` of each item, separated by spaces. */
  readonly lengths: string;
  /** Event, data and exclude of each item, one after another. */
  readonly body: string;
  /** Bytes of the body. */
  readonly bytes: number;
}

/** Writes the parts of an envelope. */
export function encodeParts(items: readonly Part[]): EnvelopeParts {
  let lengths = '';
  let body = '';
  let bytes = 0;
  for (const { event, data, exclude = '' } of items) {
    const eventLength = Buffer.byteLength(event);
    const dataLength = Buffer.byteLength(data);
    const excludeLength = exclude === '' ? 0 : Buffer.byteLength(exclude);
    lengths += `${lengths === '' ? '' : ' '}${eventLength} ${dataLength} ${excludeLength}`;
    body += exclude === '' ? event + data : event + data + exclude;
    bytes += eventLength + dataLength + excludeLength;
  }
  return { lengths, body, bytes };
}

/** Reads an envelope; `undefined` for anything that is none. */
export function decodeEnvelope(message: Buffer): Envelope | undefined {
  const end = message.indexOf(NEWLINE);
  if (end < 0 || message[1] !== SPACE) return undefined;
  const header = message.toString('latin1', 0, end).split(' ');
  const [version, epoch, first, tag, prev, count] = header;
  if (version !== VERSION || epoch === undefined || tag === undefined || prev === undefined) return undefined;
  const dash = prev.indexOf('-');
  const lengthsEnd = 6 + 3 * Number(count);
  const note = header[lengthsEnd];
  if (header.length !== (note === undefined ? lengthsEnd : lengthsEnd + 1) || dash < 0) return undefined;
  const start = end + 1;
  const body = message.toString('utf8', start);
  // As many characters as bytes: all of it is ASCII, and the lengths hold for the text too.
  const ascii = body.length === message.length - start;
  const items: Part[] = [];
  let at = 0;
  const take = (length: string): string => {
    const from = at;
    at += Number(length);
    return ascii ? body.slice(from, at) : message.toString('utf8', start + from, start + at);
  };
  for (let i = 6; i < lengthsEnd; i += 3) {
    const event = take(header[i]!);
    const data = take(header[i + 1]!);
    items.push(header[i + 2] === '0' ? { event, data } : { event, data, exclude: take(header[i + 2]!) });
  }
  if (at !== message.length - start) return undefined;
  return {
    epoch,
    prev: { offset: Number(prev.slice(0, dash)), tag: prev.slice(dash + 1) },
    first: Number(first),
    tag,
    items,
    ...(note === undefined ? {} : { note }),
  };
}
