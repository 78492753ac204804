import {
  chunked,
  ManySlots,
  OneSlot,
  SseCodec,
  unframed,
  UNNUMBERED,
  type Slots,
  type SseFormat,
} from './sse-codec.js';

/** What a stream's bytes depend on besides its channels. */
export interface StreamForm {
  readonly format: SseFormat;
  /** Whether the bytes are chunks of a chunked body. */
  readonly chunked: boolean;
}

const BARE = new SseCodec('frames', UNNUMBERED, unframed);
const BARE_CHUNKED = new SseCodec('frames', UNNUMBERED, chunked);

/**
 * The codecs of streams. Those of one channel have one codec, so that its publications are encoded once; it is kept as
 * long as a stream has it.
 */
export class SseCodecs {
  readonly #shared = new Map<string, SseCodec>();
  readonly #uses = new Map<SseCodec, { readonly key: string; count: number }>();

  take(channels: readonly string[], form: StreamForm): SseCodec {
    const framing = form.chunked ? chunked : unframed;
    const [channel, ...others] = channels as [string, ...string[]];
    if (others.length > 0) return new SseCodec(form.format, new ManySlots(channels), framing);
    const key = `${form.format} ${form.chunked} ${channel}`;
    let codec = this.#shared.get(key);
    if (codec === undefined) {
      codec = new SseCodec(form.format, new OneSlot(channel), framing);
      this.#shared.set(key, codec);
      this.#uses.set(codec, { key, count: 0 });
    }
    this.#uses.get(codec)!.count++;
    return codec;
  }

  /** The codec of all streams of the library. */
  bare(isChunked: boolean): SseCodec {
    return isChunked ? BARE_CHUNKED : BARE;
  }

  /** A codec for one stream. */
  own({ format, chunked: isChunked }: StreamForm, slots: Slots): SseCodec {
    return new SseCodec(format, slots, isChunked ? chunked : unframed);
  }

  give(codec: SseCodec): void {
    const use = this.#uses.get(codec);
    if (use === undefined || --use.count > 0) return;
    this.#uses.delete(codec);
    this.#shared.delete(use.key);
  }
}
