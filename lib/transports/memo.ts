/**
 * Remembers the last bytes that were made, by what they were made of: an event for all subscribers of a channel comes
 * once per subscriber, with the same data object.
 */
export class LastEvent {
  #channel = '';
  #data: unknown = undefined;
  #buffer: Buffer | undefined;

  get(channel: string, data: unknown): Buffer | undefined {
    return this.#data === data && this.#channel === channel ? this.#buffer : undefined;
  }

  set(channel: string, data: unknown, buffer: Buffer): Buffer {
    this.#channel = channel;
    this.#data = data;
    this.#buffer = buffer;
    return buffer;
  }
}
