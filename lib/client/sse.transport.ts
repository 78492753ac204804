import { CodedException } from '../protocol/errors.js';
import type { ConnectedData } from '../protocol/frames.js';
import { EventStreamReader } from './event-stream.js';
import { endOfReply, noReply, readReply, type Reply } from './http-wire.js';
import { RecordLink, type Sent } from './record-link.js';
import { readFrame, type ClientTransport, type LinkContext } from './transport.js';
import { reactionTo } from './upstream.js';

/** How long a later stream may take to begin: a proxy may hold it back though it let the first one through. */
const FIRST_BYTE_MS = 10_000;
/** A stream that lasted so long has worked, whatever came. */
const STABLE_MS = 5_000;
/** What a client that only receives sends all the same. */
const OWN_EVENTS: readonly string[] = ['$resume', '$subscribe', '$unsubscribe', '$auth', '$pong', '$cancel'];

/**
 * A link over `POST {url}/sse`, one stream after another, read by `fetch`: unlike EventSource it sends the token and the
 * positions. A stream that ends, in order or not, is followed by the next one of the same connection.
 */
class SseLink extends RecordLink {
  readonly #receiveOnly: boolean;

  constructor(context: LinkContext, fetchLike: typeof fetch, receiveOnly: boolean) {
    super(context, fetchLike);
    this.#receiveOnly = receiveOnly;
  }

  override send(text: string): void {
    const { id, event } = JSON.parse(text) as Sent;
    if (!this.#receiveOnly || OWN_EVENTS.includes(event)) super.send(text);
    else {
      const error = new CodedException('not_available').toBody();
      const frame = id === undefined ? { event: 'exception', data: error } : { id, error };
      queueMicrotask(() => this.context.onFrame(frame));
    }
  }

  protected begin(body: object): void {
    void this.#stream(JSON.stringify(body));
  }

  protected goOn(): void {
    return; // the stream that brought the connection goes on
  }

  async #stream(body: string): Promise<void> {
    const { clock } = this.context;
    const request = (this.request = new AbortController());
    const startedAt = clock.now();
    let isProven = false;
    let returnMs: number | undefined;
    const cancelLimit = clock.after(FIRST_BYTE_MS, () => this.end({ code: 1006, reason: 'Not open in time' }));
    let reply: Reply;
    try {
      const response = await this.wire.request(this.wire.url('/sse'), {
        method: 'POST',
        headers: { 'content-type': 'application/json', accept: 'text/event-stream, application/json' },
        body,
        signal: request.signal,
      });
      if (response.ok && response.body) {
        const onEvent = (data: string, id: string): void => {
          cancelLimit();
          if (this.#event(data, id)) isProven = true;
        };
        await this.#read(response.body, new EventStreamReader(onEvent, (ms) => (returnMs = ms)));
        reply = noReply('The stream ended');
      } else reply = await readReply(response);
    } catch (error) {
      reply = noReply(error);
    }
    cancelLimit();
    if (this.over) return;
    if (!this.pass) {
      this.end(endOfReply(reply));
      return;
    }
    this.failures = isProven || clock.now() - startedAt >= STABLE_MS ? 0 : this.failures + 1;
    const reaction = reactionTo(reply, this.failures);
    if ('end' in reaction) this.end(reaction.end);
    else {
      const again = () => void this.#stream(this.makeBody());
      this.cancel = this.context.attempt(again, this.failures, returnMs ?? reaction.afterMs);
    }
  }

  async #read(body: ReadableStream<Uint8Array>, events: EventStreamReader): Promise<void> {
    const reader = body.getReader();
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || this.over) return;
      this.context.onAlive();
      events.push(decoder.decode(value, { stream: true }));
    }
  }

  /** Takes an event. True: it brought something new. */
  #event(text: string, id: string): boolean {
    const frame = readFrame(text);
    if (!frame || this.over) return false;
    if (id === '' && frame.event === '$connected') {
      const data = frame.data as ConnectedData & { pass?: string };
      const { pass, ...connected } = data;
      if (!this.pass && pass) this.opened(pass, connected);
      return false;
    }
    if (id !== '') {
      const number = Number(id);
      if (number <= this.inbox) return false; // it came by an earlier stream
      this.inbox = number;
      this.upstream?.acknowledge(number);
    }
    this.take(frame);
    return true;
  }
}

/** Links over server-sent events. */
export function sseTransport(fetchLike: typeof fetch, receiveOnly: boolean): ClientTransport {
  return { name: 'sse', open: (context) => new SseLink(context, fetchLike, receiveOnly) };
}
