import { constants, deflateRawSync } from 'node:zlib';
import type { Codec, Run } from '../hub/ports/link.js';
import { encodeChannelEvent, encodePublication, encodeSkipped } from '../protocol/encode.js';
import { LastEvent } from './memo.js';

/** FIN and the opcode of a text frame (RFC 6455, section 5.2). A server's frames carry no mask. */
const TEXT = 0x81;
/** RSV1: the payload is compressed (RFC 7692, section 6). */
const COMPRESSED = 0x40;
/** What a compressed payload leaves out at its end (RFC 7692, section 7.2.1). */
const DEFLATE_TAIL_BYTES = 4;

/** An empty ping, and the head of a pong. */
export const PING = Buffer.from([0x89, 0x00]);
const PONG = 0x8a;

/** The bytes of a pong; a control frame has at most 125 bytes of payload. */
export function pong(payload: Buffer): Buffer {
  return Buffer.concat([Buffer.from([PONG, payload.length]), payload]);
}

/** Text frames; the same for every WebSocket, or for every one that takes compressed frames. */
export class WebSocketCodec implements Codec {
  readonly shared = true;
  readonly #last = new LastEvent();

  /**
   * Each frame of so many bytes is compressed, by itself: what is compressed in the context of the frames before depends on
   * its receiver, and could not be shared.
   */
  constructor(private readonly compressFromBytes = Infinity) {}

  frame(text: string): Buffer {
    const length = Buffer.byteLength(text);
    if (length >= this.compressFromBytes) return compressedFrame(text);
    const buffer = Buffer.allocUnsafe(headBytes(length) + length);
    buffer.write(text, writeHead(buffer, 0, length), length, 'utf8');
    return buffer;
  }

  run({ channelJson, items }: Run): Buffer {
    if (items.length === 1) return this.frame(publication(channelJson, items[0]!));
    const texts = items.map((item) => publication(channelJson, item));
    if (this.compressFromBytes !== Infinity) return Buffer.concat(texts.map((text) => this.frame(text)));
    const lengths = texts.map((text) => Buffer.byteLength(text));
    const buffer = Buffer.allocUnsafe(lengths.reduce((sum, length) => sum + headBytes(length) + length, 0));
    let at = 0;
    for (let i = 0; i < texts.length; i++) {
      at = writeHead(buffer, at, lengths[i]!);
      at += buffer.write(texts[i]!, at, lengths[i]!, 'utf8');
    }
    return buffer;
  }

  skipped({ channelJson }: Pick<Run, 'channelJson'>, skipped: number, offset: number, tag: string): Buffer {
    return this.frame(encodeSkipped(channelJson, skipped, offset, tag));
  }

  channelEvent(
    { channelJson }: Pick<Run, 'channelJson'>,
    event: '$lost' | '$unsubscribed' | '$presence',
    data: unknown,
  ): Buffer {
    const key = event + channelJson;
    return (
      this.#last.get(key, data) ?? this.#last.set(key, data, this.frame(encodeChannelEvent(channelJson, event, data)))
    );
  }
}

function publication(channelJson: string, item: Run['items'][number]): string {
  return encodePublication(channelJson, JSON.stringify(item.event), item.data, item.offset, item.tag);
}

function compressedFrame(text: string): Buffer {
  const deflated = deflateRawSync(text, { level: constants.Z_BEST_SPEED, finishFlush: constants.Z_SYNC_FLUSH });
  const length = deflated.length - DEFLATE_TAIL_BYTES;
  const buffer = Buffer.allocUnsafe(headBytes(length) + length);
  deflated.copy(buffer, writeHead(buffer, 0, length, TEXT | COMPRESSED), 0, length);
  return buffer;
}

/** How many bytes stand before a payload. */
function headBytes(length: number): number {
  return length < 126 ? 2 : length < 65_536 ? 4 : 10;
}

/** Writes what stands before a payload; returns where the payload starts. */
function writeHead(buffer: Buffer, at: number, length: number, first = TEXT): number {
  buffer[at] = first;
  if (length < 126) {
    buffer[at + 1] = length;
    return at + 2;
  }
  if (length < 65_536) {
    buffer[at + 1] = 126;
    return buffer.writeUInt16BE(length, at + 2);
  }
  buffer[at + 1] = 127;
  return buffer.writeUInt32BE(length % 2 ** 32, buffer.writeUInt32BE(Math.floor(length / 2 ** 32), at + 2));
}
