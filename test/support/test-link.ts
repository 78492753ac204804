import type { Connection } from '../../lib/hub/connection.js';
import type { Clock } from '../../lib/hub/ports/clock.js';
import type { Codec, Link, Run } from '../../lib/hub/ports/link.js';
import { encodeChannelEvent, encodePublication, encodeSkipped } from '../../lib/protocol/encode.js';

/** A frame as a peer reads it. */
export type ReceivedFrame = Record<string, any>; // any: whatever the hub sends, which is what tests are about

const CLOSE_TIMEOUT_MS = 1_000;

/** One JSON text per line. What it encoded is decoded once, however many receive it. */
export class LineCodec implements Codec {
  readonly shared = true;
  readonly #decoded = new WeakMap<Buffer, readonly ReceivedFrame[]>();

  frame(text: string): Buffer {
    return Buffer.from(`${text}\n`);
  }

  numbered(n: number, text: string): Buffer {
    return this.frame(`{"inbox":${n},${text.slice(1)}`);
  }

  run({ channelJson, items }: Run): Buffer {
    let text = '';
    for (const { event, data, offset, tag } of items) {
      text += `${encodePublication(channelJson, JSON.stringify(event), data, offset, tag)}\n`;
    }
    return Buffer.from(text);
  }

  skipped({ channelJson }: Pick<Run, 'channelJson'>, skipped: number, offset: number, tag: string): Buffer {
    return this.frame(encodeSkipped(channelJson, skipped, offset, tag));
  }

  channelEvent(
    { channelJson }: Pick<Run, 'channelJson'>,
    event: '$lost' | '$unsubscribed' | '$presence',
    data: unknown,
  ): Buffer {
    return this.frame(encodeChannelEvent(channelJson, event, data));
  }

  decode(bytes: Buffer): readonly ReceivedFrame[] {
    let frames = this.#decoded.get(bytes);
    if (frames === undefined) {
      const lines = bytes.toString().split('\n');
      lines.pop();
      frames = lines.map((line) => JSON.parse(line) as ReceivedFrame);
      this.#decoded.set(bytes, frames);
    }
    return frames;
  }
}

/** Who is at the other end of a {@link TestLink}. */
export interface LinkPeer {
  receive(frame: ReceivedFrame): void;
  /** The link is gone: the hub closed it, or destroyed it (1006). Not told of a cut, which the peer made itself. */
  closed(code: number, reason: string): void;
}

/**
 * A pipe whose peer does as it is told: reads at once, not at all, or some bytes; cuts the link, with or without the
 * hub's knowledge. What it reads is given to the peer by {@link deliver}, never from within a call of the hub.
 */
export class TestLink implements Link {
  readonly greets = false;
  heard = true;
  connection!: Connection;
  /** The most that waited at once, in bytes. */
  peakBytes = 0;
  #peer: LinkPeer | undefined;
  #reading = true;
  #arrived: Buffer[] = [];
  #waiting: Buffer[] = [];
  #bufferedBytes = 0;
  #credit = 0;
  #closing: { code: number; reason: string } | undefined;
  #gone = false;

  constructor(
    readonly codec: LineCodec,
    private readonly clock: Clock,
    peer: LinkPeer,
  ) {
    this.#peer = peer;
  }

  get bufferedBytes(): number {
    return this.#bufferedBytes;
  }

  /** Whether the hub and the peer are still joined. */
  get open(): boolean {
    return !this.#gone && this.#closing === undefined && this.#peer !== undefined;
  }

  // The hub's side.

  write(chunks: readonly Buffer[]): void {
    if (this.#gone) return;
    if (this.#reading) {
      this.#arrived.push(...chunks);
      return;
    }
    for (const chunk of chunks) this.#bufferedBytes += chunk.length;
    this.#waiting.push(...chunks);
    this.peakBytes = Math.max(this.peakBytes, this.#bufferedBytes);
  }

  ping(): void {
    this.heard = this.#peer !== undefined;
  }

  expect(): void {
    this.heard = false;
  }

  close(code: number, reason: string): void {
    if (this.#gone || this.#closing !== undefined) return;
    this.#closing = { code, reason };
    this.clock.after(CLOSE_TIMEOUT_MS, () => this.terminate());
  }

  terminate(): void {
    if (this.#gone) return;
    const { code, reason } = this.#closing ?? { code: 1006, reason: '' };
    this.#end(code, reason, 1006);
  }

  // The peer's side.

  /** Sends a frame to the hub. */
  send(frame: object): void {
    if (!this.open) return;
    this.heard = true;
    this.connection.receive(JSON.stringify(frame));
  }

  /** Stops reading. */
  stall(): void {
    this.#reading = false;
  }

  /** Reads everything, now and from now on. */
  flow(): void {
    this.#reading = true;
    this.read(Infinity);
  }

  /** Reads some bytes of what waits; whole chunks come through, the rest counts for the next time. */
  read(bytes: number): void {
    if (this.#waiting.length === 0) return;
    this.#credit += bytes;
    while (this.#waiting[0] !== undefined && this.#waiting[0].length <= this.#credit) {
      const chunk = this.#waiting.shift()!;
      this.#credit -= chunk.length;
      this.#bufferedBytes -= chunk.length;
      this.#arrived.push(chunk);
    }
    if (this.#waiting.length > 0) return;
    this.#credit = 0;
    if (this.open) this.connection.drained();
  }

  /** Gives the peer what it has read. True: there was something. */
  deliver(): boolean {
    const chunks = this.#arrived;
    this.#arrived = [];
    for (const chunk of chunks) {
      for (const frame of this.codec.decode(chunk)) this.#peer?.receive(frame);
    }
    if (this.#closing === undefined || this.#gone || this.#waiting.length > 0 || this.#peer === undefined) {
      return chunks.length > 0;
    }
    this.#end(this.#closing.code, this.#closing.reason, this.#closing.code);
    return true;
  }

  /** The peer is gone, with what it had not read. With `halfOpen` the hub does not learn of it. */
  cut({ halfOpen = false } = {}): void {
    this.#peer = undefined;
    this.#arrived = [];
    if (halfOpen) this.#reading = false;
    else this.terminate();
  }

  #end(code: number, reason: string, peerCode: number): void {
    this.#gone = true;
    this.#arrived = [];
    this.#waiting = [];
    this.#bufferedBytes = 0;
    const peer = this.#peer;
    this.#peer = undefined;
    peer?.closed(peerCode, peerCode === code ? reason : '');
    this.clock.turn(() => this.connection.ended(code, reason));
  }
}
