import type { StoredItem } from './broker.js';

/** A publication on its way to subscribers: it knows its predecessor, so that gaps show. */
export interface RunItem extends StoredItem {
  readonly prevTag: string;
}

/** Publications of one channel and epoch, without gap. */
export interface Run {
  readonly channel: string;
  /** The channel's name as JSON text. */
  readonly channelJson: string;
  readonly epoch: string;
  readonly items: readonly RunItem[];
}

/**
 * Turns frames into the bytes of one wire. The bytes of a `shared` codec depend on nothing but the input: they are
 * made once and written to every link with the same codec object. Others are asked in the order of writing.
 */
export interface Codec {
  readonly shared: boolean;
  /** The bytes of one frame, given as JSON text. */
  frame(text: string): Buffer;
  /** The same of a frame that its peer acknowledges by a number. Absent where wires of this kind carry none. */
  numbered?(n: number, text: string): Buffer;
  /** The bytes of all publications of a run, as one buffer. */
  run(run: Run): Buffer;
  /** The bytes of the marker for publications withheld from one subscriber, up to `offset`. */
  skipped(run: Pick<Run, 'channel' | 'channelJson' | 'epoch'>, skipped: number, offset: number, tag: string): Buffer;
  /** The bytes of an event about a channel. `$lost` moves the channel's position to the one in its data. */
  channelEvent(
    channel: Pick<Run, 'channel' | 'channelJson'>,
    event: '$lost' | '$unsubscribed' | '$presence',
    data: unknown,
  ): Buffer;
}

/** One open pipe to a peer: made by a transport, used by one connection. Its methods never throw. */
export interface Link {
  readonly codec: Codec;
  /** Whether the transport greets the peer in a form of its own, so that the hub sends no `$connected`. */
  readonly greets: boolean;
  /** Bytes that were written and that the kernel has not taken. */
  readonly bufferedBytes: number;
  /**
   * Whether the peer gave a sign of life since the last `ping()`: any byte; or lately that it reads, by what the kernel
   * took after it had refused to.
   */
  readonly heard: boolean;
  /**
   * Writes the chunks, in order, as one write. Where they are not taken at once, `drained()` of the link's connection
   * follows when they are.
   */
  write(chunks: readonly Buffer[]): void;
  /** Asks the peer for a sign of life by the wire's own means: a protocol ping, a comment. */
  ping(): void;
  /** Starts to watch for signs of life anew, where the hub asks by a frame of its own. */
  expect(): void;
  /**
   * Ends the link in order, after what was written; destroys it where the peer does not follow within 1 s. `delayMs`: when
   * the peer is to come back, for a wire that says so by its own means.
   */
  close(code: number, reason: string, delayMs?: number): void;
  /** Destroys the link at once. */
  terminate(): void;
}
