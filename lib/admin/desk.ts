import { requirePublishable } from '../hub/frames.js';
import type { Hub } from '../hub/hub.js';
import type { RequestExchange } from '../hub/ports/transport.js';
import { toJson } from '../protocol/encode.js';
import { RealtimeException } from '../protocol/errors.js';
import { answerJson, readJson } from '../transports/body.js';
import { PAGE, POLICY, VERSION } from './assets.js';
import { EventStream } from './event-stream.js';
import { Fleet } from './fleet.js';
import { Queries } from './queries.js';
import { SAMPLE_MS, type Finding, type Hello } from './snapshot.js';
import { tail } from './tail.js';

/** How many streams a node has, those of the page and those of channels. */
export const MAX_STREAMS = 32;
/** After how long a stream is ended, ms: it comes back, and is let in anew. */
const STREAM_MS = 300_000;
/** The longest body of a request, in bytes. */
const MAX_BODY_BYTES = 256 * 1024;
const MAX_TEXT_LENGTH = 1_024;

/** What the page is of. */
export interface DeskOptions {
  readonly hub: Hub;
  readonly readOnly: boolean;
  /** All points of the checklist, and where this node falls short. */
  readonly checks: readonly string[];
  readonly findings: () => readonly Finding[];
}

/** The admin page, what it shows and what it does. Whoever calls has made sure that it is allowed. */
export class Desk {
  readonly #fleet: Fleet;
  readonly #queries: Queries;
  #streams = 0;

  constructor(private readonly options: DeskOptions) {
    this.#fleet = new Fleet(options.hub, options.findings);
    this.#queries = new Queries(options.hub);
  }

  open(): Promise<void> {
    return this.#fleet.open();
  }

  close(): Promise<void> {
    return this.#fleet.close();
  }

  /** The page itself: one document, the same for everybody. */
  page({ request, response }: RequestExchange): void {
    response.statusCode = 200;
    const headers = {
      'Content-Type': 'text/html; charset=utf-8',
      'Content-Length': Buffer.byteLength(PAGE),
      'Content-Security-Policy': POLICY,
      'Cache-Control': 'no-store',
      'X-Content-Type-Options': 'nosniff',
      'X-Frame-Options': 'DENY',
      'Referrer-Policy': 'no-referrer',
      'Cross-Origin-Opener-Policy': 'same-origin',
    };
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    response.end(request.method === 'HEAD' ? undefined : PAGE);
  }

  /** What the nodes are and do, as it changes. */
  stream(exchange: RequestExchange): void {
    const { hub, readOnly, checks } = this.options;
    let leave: () => void = () => undefined;
    const stream = this.#open(exchange, () => leave());
    const hello: Hello = { node: hub.node, readOnly, version: VERSION, intervalMs: SAMPLE_MS, checks };
    stream.send('hello', JSON.stringify(hello));
    leave = this.#fleet.watch((event, node, data) => stream.offer(`${event} ${node}`, event, data));
  }

  /** The publications of a channel, as they come. */
  tail(exchange: RequestExchange): void {
    const { hub } = this.options;
    const { channel } = hub.match(exchange.query.get('channel'));
    tail(hub, channel, (ended) => this.#open(exchange, ended));
  }

  async connections({ query, response }: RequestExchange): Promise<void> {
    const of = (name: string): string => (query.get(name) ?? '').slice(0, MAX_TEXT_LENGTH);
    const id = query.get('id');
    const answer =
      id === null
        ? this.#queries.connections({
            text: of('text').trim(),
            transport: of('transport'),
            node: of('node'),
            page: Math.trunc(Number(query.get('page'))) || 1,
          })
        : this.#queries.connection(id);
    answerJson(response, 200, [JSON.stringify(await answer)]);
  }

  async channel({ query, response }: RequestExchange): Promise<void> {
    const answer = await this.#queries.channel(query.get('name') ?? '', query.get('history') === '1');
    answerJson(response, 200, [JSON.stringify(answer)]);
  }

  /** Ends a connection; with `reconnect` it may come back. */
  async disconnect({ request, response }: RequestExchange): Promise<void> {
    this.#requireActions();
    const { connection, reconnect } = await readJson(request, MAX_BODY_BYTES);
    const id = text('connection', connection);
    await this.options.hub.control.disconnect({ connection: id }, { reconnect: reconnect === true });
    answerJson(response, 200, ['{}']);
  }

  /** Publishes to a channel. */
  async publish({ request, response }: RequestExchange): Promise<void> {
    this.#requireActions();
    const { hub } = this.options;
    const { channel, event, data } = await readJson(request, MAX_BODY_BYTES);
    const match = hub.match(channel);
    requirePublishable(text('event', event));
    const position = await hub.publish(match, { event: event as string, data: toJson(data) });
    answerJson(response, 200, [JSON.stringify({ position })]);
  }

  /** Begins a stream that ends with the node's drain, or after a while. */
  #open(exchange: RequestExchange, ended: () => void): EventStream {
    const { hub } = this.options;
    if (!hub.accepting) throw new RealtimeException('draining');
    if (this.#streams >= MAX_STREAMS) {
      throw new RealtimeException('too_many_connections', `At most ${MAX_STREAMS} streams of the admin page per node`);
    }
    this.#streams++;
    const stream: EventStream = new EventStream(exchange, () => {
      this.#streams--;
      forget();
      cancel();
      ended();
    });
    const forget = hub.onDrain(() => {
      stream.send('gone', JSON.stringify({ node: hub.node })); // the page may go on where nobody knows of this node
      stream.end();
    });
    const cancel = hub.settings.clock.after(STREAM_MS, () => stream.end());
    return stream;
  }

  #requireActions(): void {
    if (this.options.readOnly) throw new RealtimeException('forbidden', 'The admin page is read-only');
  }
}

function text(name: string, value: unknown): string {
  if (typeof value === 'string' && value !== '' && value.length <= MAX_TEXT_LENGTH) return value;
  throw new RealtimeException('invalid', `"${name}" is text of 1 to ${MAX_TEXT_LENGTH} characters`);
}
