/**
 * Reads `text/event-stream`, in pieces cut anywhere: calls `onData` with the data and the id of each event, empty
 * where it has none, and `onRetry` with a `retry` that came by itself. Event names are not looked at: with
 * `format=frames` an event's data is a whole frame.
 */
export class EventStreamReader {
  readonly #onData: (data: string, id: string) => void;
  readonly #onRetry: (ms: number) => void;
  #rest = '';
  #data: string | undefined;
  #id = '';
  #retry: string | undefined;

  constructor(onData: (data: string, id: string) => void, onRetry: (ms: number) => void) {
    this.#onData = onData;
    this.#onRetry = onRetry;
  }

  push(piece: string): void {
    // A CR at the end of a piece may be half of a CRLF: it waits for the next one.
    const lines = (this.#rest + piece).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop()!;
    for (const line of lines) this.#line(line);
  }

  #line(line: string): void {
    if (line.startsWith('data:')) {
      const value = line.slice(line[5] === ' ' ? 6 : 5);
      this.#data = this.#data === undefined ? value : `${this.#data}\n${value}`;
    } else if (line.startsWith('id:')) this.#id = line.slice(3).trimStart();
    else if (line.startsWith('retry:')) this.#retry = line.slice(6).trim();
    else if (line === '') {
      const data = this.#data;
      const id = this.#id;
      const retry = this.#retry;
      this.#data = this.#retry = undefined;
      this.#id = '';
      if (data !== undefined) this.#onData(data, id);
      else if (retry !== undefined && /^\d+$/.test(retry)) this.#onRetry(Number(retry));
    }
  }
}
