import { once } from 'node:events';
import { request as httpRequest, type ClientRequest, type IncomingMessage } from 'node:http';

/** One event of a stream, as an EventSource sees it. */
export interface StreamEvent {
  readonly event: string;
  readonly data: any;
  readonly id: string;
  /** The block, as it came. */
  readonly block: string;
}

/** A stream of events, read as the standard says, from a real server. */
export class EventStream {
  readonly events: StreamEvent[] = [];
  readonly comments: string[] = [];
  retryMs: number | undefined;
  lastEventId = '';
  over = false;
  /** Called when events came, and at the end. */
  onEvents: () => void = () => undefined;
  #rest = '';
  #wake: () => void = () => undefined;

  private constructor(
    private readonly request: ClientRequest,
    readonly response: IncomingMessage,
  ) {
    response.setEncoding('utf8');
    response.on('data', (text: string) => this.#read(text));
    response.on('error', () => undefined);
    response.once('close', () => {
      this.over = true;
      this.onEvents();
      this.#wake();
    });
  }

  /** Asks for a stream, by POST where there is a body. */
  static async open(
    port: number,
    path: string,
    headers: Record<string, string> = {},
    body?: object,
  ): Promise<EventStream> {
    const all: Record<string, string> = { Accept: 'text/event-stream', ...headers };
    const method = body === undefined ? 'GET' : 'POST';
    if (body !== undefined) all['Content-Type'] = 'application/json';
    const request = httpRequest({ port, host: '127.0.0.1', path, method, headers: all, agent: false });
    request.on('error', () => undefined);
    request.end(body === undefined ? undefined : JSON.stringify(body));
    const [response] = await once(request, 'response');
    return new EventStream(request, response);
  }

  /** What came, where it is no stream: a refusal. */
  async text(): Promise<string> {
    await this.ended();
    return this.#rest;
  }

  /** Waits until there are `count` events; gives them all. */
  async take(count: number): Promise<StreamEvent[]> {
    await this.until(() => this.events.length >= count);
    return this.events;
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      if (this.over) throw new Error('The stream ended early');
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  async ended(): Promise<void> {
    while (!this.over) await new Promise<void>((resolve) => (this.#wake = resolve));
  }

  /** What comes from now on is told to nobody. */
  ignore(): void {
    this.onEvents = () => undefined;
  }

  close(): void {
    this.request.destroy();
  }

  #read(text: string): void {
    const blocks = (this.#rest + text).split('\n\n');
    this.#rest = blocks.pop()!;
    for (const block of blocks) this.#block(block);
    this.onEvents();
    this.#wake();
  }

  #block(block: string): void {
    let event = 'message';
    const data: string[] = [];
    for (const line of block.split(/\r\n|\r|\n/)) {
      const colon = line.indexOf(':');
      const name = line.slice(0, colon);
      const value = line.slice(colon + 1).replace(/^ /, '');
      if (colon === 0) this.comments.push(value);
      else if (name === 'event') event = value;
      else if (name === 'id') this.lastEventId = value;
      else if (name === 'retry') this.retryMs = Number(value);
      else if (name === 'data') data.push(value);
      else throw new Error(`No field of an event stream: ${line}`);
    }
    if (data.length === 0) return;
    const text = data.join('\n');
    this.events.push({ event, data: parse(text), id: this.lastEventId, block });
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
