import { request, type ClientRequest, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';

/** A block of a stream of server-sent events, as it stands in the stream. */
export interface Block {
  readonly id?: string;
  readonly event?: string;
  readonly data?: string;
  readonly retry?: string;
  readonly comment?: string;
}

/** A stream of server-sent events that keeps its blocks, comments too, until a test asks for them. */
export class EventStream {
  readonly #blocks: Block[] = [];
  readonly #waiting: ((block: Block) => void)[] = [];
  #text = '';
  /** Resolves when the server ended the stream; rejects when the connection broke. */
  readonly ended: Promise<void>;

  constructor(
    private readonly request: ClientRequest,
    readonly headers: IncomingHttpHeaders,
    response: IncomingMessage,
  ) {
    response.setEncoding('utf8').on('data', (text: string) => this.#take(text));
    this.ended = new Promise((resolve, reject) => {
      response.once('end', resolve);
      response.once('error', reject);
    });
    this.ended.catch(() => undefined);
  }

  /** The next block that has not been asked for. */
  next(): Promise<Block> {
    const block = this.#blocks.shift();
    return block === undefined ? new Promise((resolve) => this.#waiting.push(resolve)) : Promise.resolve(block);
  }

  /** The next event of a type; comments and other events are passed over. */
  async event(type?: string): Promise<Block> {
    for (;;) {
      const block = await this.next();
      if (block.data !== undefined && (type === undefined || block.event === type)) return block;
    }
  }

  /** The next comment; events are passed over. */
  async comment(): Promise<string> {
    for (;;) {
      const { comment } = await this.next();
      if (comment !== undefined) return comment;
    }
  }

  close(): void {
    this.request.destroy();
  }

  #take(text: string): void {
    this.#text += text;
    for (let end = this.#text.indexOf('\n\n'); end !== -1; end = this.#text.indexOf('\n\n')) {
      const lines = this.#text.slice(0, end).split('\n');
      this.#text = this.#text.slice(end + 2);
      const block = parseBlock(lines);
      if (Object.keys(block).length === 0) continue;
      const next = this.#waiting.shift();
      if (next === undefined) this.#blocks.push(block);
      else next(block);
    }
  }
}

/** An answer that is no stream. */
export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: any;
}

/** Asks for a stream, as an EventSource would. The caller closes it. */
export async function openStream(url: string, headers: Record<string, string> = {}): Promise<EventStream> {
  const result = await ask(url, headers);
  if (result instanceof EventStream) return result;
  throw new Error(`No stream: ${result.status} ${JSON.stringify(result.body)}`);
}

/** Asks for a stream where that is refused. */
export async function refusedStream(url: string, headers: Record<string, string> = {}): Promise<Answer> {
  const result = await ask(url, headers);
  if (!(result instanceof EventStream)) return result;
  result.close();
  throw new Error('The stream was not refused');
}

function ask(url: string, headers: Record<string, string>): Promise<EventStream | Answer> {
  const asked = request(url, { agent: false, headers: { Accept: 'text/event-stream', ...headers } });
  return new Promise((resolve, reject) => {
    asked.once('error', reject);
    asked.once('response', (response) => {
      asked.on('error', () => undefined);
      const { statusCode, headers: got } = response;
      if (statusCode === 200 && got['content-type']?.startsWith('text/event-stream') === true) {
        resolve(new EventStream(asked, got, response));
        return;
      }
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      response.once('end', () => resolve({ status: statusCode!, headers: got, body: parseJson(text) }));
    });
    asked.end();
  });
}

function parseBlock(lines: readonly string[]): Block {
  const block: Record<string, string> = {};
  for (const line of lines) {
    if (line === '') continue;
    const colon = line.indexOf(':');
    const name = colon === 0 ? 'comment' : colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? '' : line.slice(colon + 1).replace(/^ /, '');
    block[name] = name in block ? `${block[name]!}\n${value}` : value;
  }
  return block;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
