import type { Codec, Run, RunItem } from './ports/link.js';
import type { ChannelTally } from './ports/meter.js';

/** A channel's name, with its JSON text made once. */
export interface ChannelName {
  readonly channel: string;
  readonly channelJson: string;
  /** What the channels of its pattern do. */
  readonly tally: ChannelTally;
}

/** What an item costs in bookkeeping besides its event and data, in bytes: a bound, not a measurement. */
const ITEM_OVERHEAD_BYTES = 96;

/** What a link is given at once, in bytes: between strides it is asked what it has taken. */
export const STRIDE_BYTES = 64 * 1024;

/** The bytes an item stands for in every bound. */
export function itemBytes(item: { event: string; data: string }): number {
  return item.event.length + Buffer.byteLength(item.data) + ITEM_OVERHEAD_BYTES;
}

/** Where the stride ends that begins at an item: before it would be too large, but not before it has one item. */
export function strideEnd(items: readonly RunItem[], start: number): number {
  let end = start;
  let bytes = 0;
  do bytes += itemBytes(items[end++]!);
  while (end < items.length && bytes + itemBytes(items[end]!) <= STRIDE_BYTES);
  return end;
}

/** The publications of one channel in one turn, shared by all its subscribers and encoded once per codec. */
export class Batch implements Run {
  readonly channel: string;
  readonly channelJson: string;
  readonly tally: ChannelTally;
  readonly epoch: string;
  readonly items: readonly RunItem[];
  readonly first: number;
  readonly last: number;
  /** Whether no offset is missing between the first item and the last. */
  readonly contiguous: boolean;
  readonly bytes: number;
  /** Whether any item is withheld from anybody. */
  readonly excludes: boolean;
  #codec: Codec | undefined;
  #encoded: Buffer | undefined;
  #others: Map<Codec, Buffer> | undefined;
  #strides: readonly Batch[] | undefined;

  constructor(name: ChannelName, epoch: string, items: readonly RunItem[]) {
    this.channel = name.channel;
    this.channelJson = name.channelJson;
    this.tally = name.tally;
    this.epoch = epoch;
    this.items = items;
    this.first = items[0]!.offset;
    this.last = items[items.length - 1]!.offset;
    this.contiguous = this.last - this.first === items.length - 1;
    let bytes = 0;
    let excludes = false;
    for (const item of items) {
      bytes += itemBytes(item);
      if (item.exclude !== undefined) excludes = true;
    }
    this.bytes = bytes;
    this.excludes = excludes;
  }

  /** The batch cut into strides; shared by all who ask. */
  get strides(): readonly Batch[] {
    if (this.#strides === undefined) {
      const strides: Batch[] = [];
      for (let start = 0, end; start < this.items.length; start = end) {
        end = strideEnd(this.items, start);
        strides.push(new Batch(this, this.epoch, this.items.slice(start, end)));
      }
      this.#strides = strides;
    }
    return this.#strides;
  }

  /** Whether any item is withheld from a client instance. */
  withholdsFrom(client: string | undefined): boolean {
    return this.excludes && client !== undefined && this.items.some((item) => item.exclude === client);
  }

  /** The bytes of all items for a codec. */
  encode(codec: Codec): Buffer {
    if (this.#codec === codec) return this.#encoded!;
    if (!codec.shared) return codec.run(this);
    let encoded = this.#others?.get(codec);
    if (encoded === undefined) {
      encoded = codec.run(this);
      if (this.#codec === undefined) {
        this.#codec = codec;
        this.#encoded = encoded;
      } else {
        (this.#others ??= new Map()).set(codec, encoded);
      }
    }
    return encoded;
  }
}
