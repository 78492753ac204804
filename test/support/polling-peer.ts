import type { Hub } from '../../lib/hub/hub.js';
import type { RecordConnection } from '../../lib/hub/record-connection.js';
import { once } from 'node:events';
import type { Agent } from 'node:http';
import { request as httpRequest, type ClientRequest, type IncomingHttpHeaders } from 'node:http';

/** What a node answered. */
export interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** The body, read as JSON; text where it is none. */
  readonly body: any; // whatever came, which is what tests are about
}

/** A request that waits for its answer. */
export interface Waiting {
  readonly request: ClientRequest;
  readonly reply: Promise<Reply>;
}

/** Sends a request with a JSON body, if any. */
export function post(url: string, body: unknown, headers: Record<string, string> = {}, agent?: Agent): Waiting {
  return open('POST', url, { 'Content-Type': 'application/json', ...headers }, JSON.stringify(body), agent);
}

export function get(url: string, headers: Record<string, string> = {}): Waiting {
  return open('GET', url, headers);
}

function open(method: string, url: string, headers: Record<string, string>, body?: string, agent?: Agent): Waiting {
  const request = httpRequest(url, { method, agent: agent ?? false, headers });
  const reply = (async (): Promise<Reply> => {
    const [response] = await once(request, 'response');
    let text = '';
    for await (const chunk of response.setEncoding('utf8')) text += String(chunk);
    return { status: response.statusCode, headers: response.headers, body: parse(text) };
  })();
  reply.catch(() => undefined); // for whoever aborts it
  request.end(body);
  return { request, reply };
}

/** A refusal, where an answer was expected. */
export class Refused extends Error {
  constructor(readonly reply: Reply) {
    super(`${reply.status} ${JSON.stringify(reply.body)}`);
  }
}

/** What a {@link PollingPeer} wants. */
export interface PollingOptions {
  client?: string;
  channels?: Record<string, string | null>;
  headers?: Record<string, string>;
}

/** A peer over long polling, one request at a time as a test asks for it: each goes to where `base` says. */
export class PollingPeer {
  /** Where it is in each channel. */
  positions: Record<string, string> = {};
  inbox = 0;
  seq = 0;
  pass = '';
  id = '';
  #nextId = 0;

  constructor(
    /** The URL of the endpoint, asked for each request. */
    public base: () => string,
    protected readonly headers: Record<string, string> = {},
  ) {}

  /** Makes a connection. */
  static async connect(base: () => string, options: PollingOptions = {}): Promise<PollingPeer> {
    const peer = new PollingPeer(base, options.headers);
    const { client, channels } = options;
    const reply = await post(`${base()}/poll`, { client, positions: channels }, options.headers).reply;
    if (reply.status !== 201) throw new Refused(reply);
    peer.pass = reply.body.pass;
    peer.id = reply.body.frames[0].data.connection;
    peer.positions = reply.body.positions;
    return peer;
  }

  /** Polls, without waiting for the answer. */
  begin(): Waiting {
    const { pass, inbox, positions } = this;
    return post(`${this.base()}/poll`, { pass, inbox, positions }, this.headers);
  }

  /** Polls once; takes over what the answer says. */
  async poll(waiting: Waiting = this.begin()): Promise<any[]> {
    const reply = await waiting.reply;
    if (reply.status !== 200) throw new Refused(reply);
    if (reply.body.superseded === true) return [];
    Object.assign(this.positions, reply.body.positions);
    this.inbox = reply.body.inbox;
    return reply.body.frames;
  }

  /** Polls until a frame came that satisfies a condition; all that came until then. */
  async until(condition: (frame: any) => boolean): Promise<any[]> {
    const frames: any[] = [];
    while (!frames.some(condition)) frames.push(...(await this.poll()));
    return frames;
  }

  /** Sends frames, as a new sequence number. */
  async send(...frames: object[]): Promise<any[]> {
    return this.repeat(++this.seq, ...frames);
  }

  async repeat(seq: number, ...frames: object[]): Promise<any[]> {
    const reply = await post(`${this.base()}/send`, { pass: this.pass, seq, frames }, this.headers).reply;
    if (reply.status !== 200) throw new Refused(reply);
    return reply.body.frames;
  }

  /** Sends one request; its answer. */
  async request(event: string, data?: unknown): Promise<any> {
    const id = ++this.#nextId;
    const answers = await this.send({ id, event, data });
    return answers.find((answer) => answer.id === id);
  }
}

/** Resolves once a poll of the peer waits at a node, or at one of several. */
export async function pollWaits(at: Pick<Hub, 'connections'> | readonly Hub[], { id }: PollingPeer): Promise<void> {
  const hubs = 'connections' in at ? [at] : at;
  const waits = ({ connections }: Pick<Hub, 'connections'>): boolean =>
    (connections.get(id) as RecordConnection | undefined)?.current !== undefined;
  while (!hubs.some(waits)) await new Promise(setImmediate);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
