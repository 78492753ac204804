/**
 * Reads `text/event-stream`, in pieces cut anywhere: calls `onData` with the data and the id of each event, empty
 * where it has none. Event names and `retry` are not looked at: with `format=frames` an event's data is a whole frame.
 */
export class EventStreamReader {
  readonly #onData: (data: string, id: string) => void;
  #rest = '';
  #data: string | undefined;
  #id = '';

  constructor(onData: (data: string, id: string) => void) {
    this.#onData = onData;
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
    else if (line === '') {
      const data = this.#data;
      const id = this.#id;
      this.#data = undefined;
      this.#id = '';
      if (data !== undefined) this.#onData(data, id);
    }
  }
}
