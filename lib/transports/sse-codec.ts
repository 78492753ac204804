import type { Codec, Run } from '../hub/ports/link.js';
import { formatCursor, MAX_CURSOR_LENGTH } from '../protocol/cursor.js';
import { encodeChannelEvent, encodeEvent, encodePublication, encodeSkipped, toJson } from '../protocol/encode.js';
import type { LostData } from '../protocol/frames.js';
import { formatPosition, type Position } from '../protocol/position.js';
import { LastEvent } from './memo.js';

/** `native`: for a bare EventSource; `frames`: each event's data is a whole frame. */
export type SseFormat = 'native' | 'frames';

type ChannelName = Pick<Run, 'channel' | 'channelJson'>;

/** Where a stream is: what the `id` of an event says. */
export interface Slots {
  /** Whether the ids depend on nothing but the event. */
  readonly shared: boolean;
  /** Where a stream begins: its first cursor. */
  begin(positions: ReadonlyMap<string, Position>): string | undefined;
  /** The cursor after a channel has moved; `undefined` for a channel that the request did not name. */
  move(channel: string, position: Position): string | undefined;
  /** The cursor after a frame of the inbox. Absent where the stream has none. */
  number?(n: number): string;
}

/** The one channel of a stream: its position is the cursor, the same for all who read this channel alone. */
export class OneSlot implements Slots {
  readonly shared = true;

  constructor(private readonly channel: string) {}

  begin(positions: ReadonlyMap<string, Position>): string {
    return `1~0:${positions.get(this.channel)!}`;
  }

  move(channel: string, position: Position): string | undefined {
    return channel === this.channel ? `1~0:${position}` : undefined;
  }
}

/** The channels of one stream, numbered as its request names them, and how far it is in each. */
export class ManySlots implements Slots {
  readonly shared = false;
  readonly #slots: ReadonlyMap<string, number>;
  readonly #positions = new Map<number, Position>();

  constructor(channels: readonly string[]) {
    this.#slots = new Map(channels.map((channel, slot) => [channel, slot]));
  }

  begin(positions: ReadonlyMap<string, Position>): string {
    for (const [channel, slot] of this.#slots) this.#positions.set(slot, positions.get(channel)!);
    return formatCursor(this.#positions);
  }

  move(channel: string, position: Position): string | undefined {
    const slot = this.#slots.get(channel);
    if (slot === undefined) return undefined;
    this.#positions.set(slot, position);
    return formatCursor(this.#positions);
  }
}

/** A stream of the library, which knows by itself where it is: only frames of the inbox are numbered. */
export const UNNUMBERED: Slots = {
  shared: true,
  begin: () => undefined,
  move: () => undefined,
  number: (n) => String(n),
};

/** The channels of a connection with a record, by the numbers that it gave them, and its pass. */
export class RecordSlots implements Slots {
  readonly shared = false;
  #positions = new Map<string, Position>();

  constructor(
    private readonly pass: string,
    private inbox: number,
    private readonly slotOf: (channel: string) => number | undefined,
  ) {}

  begin(positions: ReadonlyMap<string, Position>): string {
    this.#positions = new Map(positions);
    return this.#cursor();
  }

  move(channel: string, position: Position): string {
    this.#positions.set(channel, position);
    return this.#cursor();
  }

  number(n: number): string {
    this.inbox = n;
    return this.#cursor();
  }

  /** Channels for which there is no room are left out: they go on from where they began. */
  #cursor(): string {
    const items: [number, Position][] = [];
    let room = MAX_CURSOR_LENGTH - formatCursor([], this.pass, this.inbox).length;
    for (const [channel, position] of this.#positions) {
      const slot = this.slotOf(channel);
      if (slot === undefined) continue;
      room -= `!${slot.toString(36)}:${position}`.length;
      if (room >= 0) items.push([slot, position]);
    }
    return formatCursor(items, this.pass, this.inbox);
  }
}

/** Turns text of a stream into bytes. */
export type Framing = (text: string) => Buffer;

/** The text as it is: what carries it frames it. */
export const unframed: Framing = (text) => Buffer.from(text);

/** A chunk of a chunked body (RFC 9112, section 7.1), so that the bytes can go to the socket as they are. */
export const chunked: Framing = (text) => {
  const length = Buffer.byteLength(text);
  const size = `${length.toString(16)}\r\n`;
  const buffer = Buffer.allocUnsafe(size.length + length + 2);
  buffer.write(size, 0, 'latin1');
  buffer.write(text, size.length, 'utf8');
  buffer.write('\r\n', size.length + length, 'latin1');
  return buffer;
};

/** Frames as blocks of `text/event-stream`. */
export class SseCodec implements Codec {
  readonly #last = new LastEvent();

  constructor(
    readonly format: SseFormat,
    readonly slots: Slots,
    private readonly framing: Framing,
  ) {}

  get shared(): boolean {
    return this.slots.shared;
  }

  frame(text: string): Buffer {
    return this.#frame(text, undefined);
  }

  numbered(n: number, text: string): Buffer {
    return this.#frame(text, this.slots.number?.(n));
  }

  #frame(text: string, id: string | undefined): Buffer {
    return this.framing(this.format === 'frames' ? block(undefined, id, text) : nativeFrame(text, id));
  }

  run({ channel, channelJson, epoch, items }: Run): Buffer {
    let text = '';
    for (const { event, data, offset, tag } of items) {
      const id = this.slots.move(channel, formatPosition(epoch, offset, tag));
      text +=
        this.format === 'frames'
          ? block(undefined, id, encodePublication(channelJson, JSON.stringify(event), data, offset, tag))
          : block(event, id, data);
    }
    return this.framing(text);
  }

  skipped(
    { channel, channelJson, epoch }: ChannelName & { epoch: string },
    n: number,
    offset: number,
    tag: string,
  ): Buffer {
    const id = this.slots.move(channel, formatPosition(epoch, offset, tag));
    const frame = encodeSkipped(channelJson, n, offset, tag);
    return this.framing(block(this.format === 'frames' ? undefined : '$skipped', id, frame));
  }

  channelEvent(name: ChannelName, event: '$lost' | '$unsubscribed' | '$presence', data: unknown): Buffer {
    const key = event + name.channelJson;
    const known = this.shared ? this.#last.get(key, data) : undefined;
    return known ?? this.#last.set(key, data, this.framing(this.#channelBlock(name, event, data)));
  }

  /** The first event of a stream, which tells the peer its cursor and after how long to come back. */
  opening(data: Readonly<Record<string, unknown>>, cursor: string | undefined, retryMs: number): Buffer {
    const native = this.format === 'native';
    const json = native ? toJson(data) : encodeEvent('$connected', data);
    return this.framing(`retry: ${retryMs}\n${block(native ? '$open' : undefined, cursor, json)}`);
  }

  /** When its peer is to come back, of a stream that ends: an EventSource does so after the time that was told last. */
  returning(delayMs: number): Buffer {
    return this.framing(`retry: ${Math.max(1, delayMs)}\n\n`);
  }

  /** A comment: bytes that mean nothing. */
  comment(): Buffer {
    return this.framing(':\n\n');
  }

  #channelBlock(
    { channel, channelJson }: ChannelName,
    event: '$lost' | '$unsubscribed' | '$presence',
    data: unknown,
  ): string {
    const id = event === '$lost' ? this.slots.move(channel, (data as LostData).position) : undefined;
    if (this.format === 'frames') return block(undefined, id, encodeChannelEvent(channelJson, event, data));
    const rest = toJson(data).slice(1);
    return block(event, id, `{"channel":${channelJson}${rest === '}' ? '' : ','}${rest}`);
  }
}

/** One event: `id:` comes before the blank line that dispatches it. */
export function block(event: string | undefined, id: string | undefined, data: string): string {
  const name = event === undefined ? '' : `event: ${fieldOf(event)}\n`;
  const cursor = id === undefined ? '' : `id: ${id}\n`;
  return `${name}${cursor}data: ${hasLineEnd(data) ? data.split(/\r\n|\r|\n/).join('\ndata: ') : data}\n\n`;
}

/** What the application sends to one peer: the event by its name; text of its own form as it is. */
function nativeFrame(text: string, id: string | undefined): string {
  const { event, data } = parse(text);
  return typeof event === 'string' && event !== '' ? block(event, id, toJson(data)) : block(undefined, id, text);
}

/** The frame that a text is; `send` of the application takes any text. */
function parse(text: string): { event?: unknown; data?: unknown } {
  try {
    return (JSON.parse(text) as { event?: unknown; data?: unknown } | null) ?? {};
  } catch {
    return {};
  }
}

/** A name as a field holds it: a line ends with CR or LF, so that these are percent-encoded. */
export function fieldOf(event: string): string {
  return hasLineEnd(event) ? event.replaceAll('\r', '%0D').replaceAll('\n', '%0A') : event;
}

function hasLineEnd(text: string): boolean {
  return text.includes('\n') || text.includes('\r');
}
