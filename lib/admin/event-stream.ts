import type { RequestExchange } from '../hub/ports/transport.js';
import { destroyResponse, whenOver } from '../transports/departure.js';

/** What may wait for somebody who does not read, in bytes: past it the stream is cut. */
const MAX_WAITING_BYTES = 1024 * 1024;
/** Past this many bytes that wait, what is offered is kept back. */
const ROOM_BYTES = 64 * 1024;
/** How soon a page comes back, ms. */
const RETRY_MS = 1_000;

/** A stream of server-sent events with JSON data, for a page of the package's own. */
export class EventStream {
  #over = false;
  /** What was offered and is not sent yet, by its key. */
  readonly #offered = new Map<string, () => string>();

  /** `ended` is called once, when the peer is gone or the stream has ended. */
  constructor(
    private readonly exchange: RequestExchange,
    private readonly ended: () => void,
  ) {
    const { response } = exchange;
    whenOver(exchange, () => this.#end());
    response.on('drain', () => this.#sendOffered());
    response.statusCode = 200;
    response.setHeader('Content-Type', 'text/event-stream; charset=utf-8');
    response.setHeader('Cache-Control', 'no-store, no-transform');
    response.setHeader('X-Content-Type-Options', 'nosniff');
    response.setHeader('X-Accel-Buffering', 'no');
    response.write(`retry: ${RETRY_MS}\n\n`);
  }

  /** Sends an event with JSON text, which has no line breaks. */
  send(event: string, data: string): void {
    this.#write(blockOf(event, data));
  }

  /**
   * Sends an event when the peer has room for it: one that is offered by the same key meanwhile takes its place, so that
   * little waits for somebody who reads slowly. In the order of the keys that wait.
   */
  offer(key: string, event: string, data: () => string): void {
    if (this.#over) return;
    this.#offered.set(key, () => blockOf(event, data()));
    this.#sendOffered();
  }

  /** Sends nothing, so that the stream is not silent. */
  beat(): void {
    this.#write(':\n\n');
  }

  /** Ends it in order. */
  end(): void {
    if (this.#over) return;
    this.#end();
    this.exchange.response.end();
  }

  #write(text: string): void {
    if (this.#over) return;
    this.exchange.response.write(text);
    if (this.exchange.response.writableLength > MAX_WAITING_BYTES) destroyResponse(this.exchange);
  }

  #sendOffered(): void {
    for (const [key, make] of this.#offered) {
      if (this.#over || this.exchange.response.writableLength > ROOM_BYTES) return;
      this.#offered.delete(key);
      this.#write(make());
    }
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#offered.clear();
    this.ended();
  }
}

function blockOf(event: string, data: string): string {
  return `event: ${event}\ndata: ${data}\n\n`;
}
