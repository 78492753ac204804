import type { Codec } from './ports/link.js';

/** A frame for many connections, encoded once per codec. */
export class SharedFrame {
  #encoded: Map<Codec, Buffer> | undefined;

  constructor(readonly text: string) {}

  encode(codec: Codec): Buffer {
    if (!codec.shared) return codec.frame(this.text);
    let buffer = this.#encoded?.get(codec);
    if (buffer === undefined) {
      buffer = codec.frame(this.text);
      (this.#encoded ??= new Map()).set(codec, buffer);
    }
    return buffer;
  }
}
