import { formatPosition, type Position } from '../protocol/position.js';
import type { StoredItem } from './ports/broker.js';

/** An event and its data, published to a channel at an offset. A class, so that decorated parameters can name it. */
export class Publication<T = unknown> {
  readonly channel: string;
  readonly event: string;
  readonly offset: number;
  readonly tag: string;
  /** The position right after this publication: recovery from it yields what follows. */
  readonly position: Position;
  readonly #json: string;
  #data: T | undefined;
  #parsed = false;

  /** @internal */
  constructor(channel: string, epoch: string, item: StoredItem) {
    this.channel = channel;
    this.event = item.event;
    this.offset = item.offset;
    this.tag = item.tag;
    this.position = formatPosition(epoch, item.offset, item.tag);
    this.#json = item.data;
  }

  /** The data, parsed when first asked for; every reader of this publication gets the same value. */
  get data(): T {
    if (!this.#parsed) {
      this.#data = JSON.parse(this.#json) as T;
      this.#parsed = true;
    }
    return this.#data as T;
  }

  /** The shape of a publication on the wire. */
  toJSON(): { channel: string; event: string; data: T; offset: number; tag: string } {
    const { channel, event, data, offset, tag } = this;
    return { channel, event, data, offset, tag };
  }
}
