import { formatCursor, MAX_CURSOR_LENGTH } from '../protocol/cursor.js';
import { peerRow, CodedException, type ErrorBody } from '../protocol/errors.js';
import type { ConnectedData, FrameId, ResumeAnswer, ResumeData, SubscribeData } from '../protocol/frames.js';
import type { Position } from '../protocol/position.js';
import { EventStreamReader } from './event-stream.js';
import { errorOf } from './failures.js';
import { endOfReply, HttpWire, readReply } from './http-wire.js';
import { PollLink } from './poll.transport.js';
import { readFrame, type ClientLink, type ClientTransport, type IncomingFrame, type LinkContext } from './transport.js';
import type { LinkEnd } from './transport.js';

/** What the client sends, as far as this link looks at it. */
interface Request {
  id?: FrameId;
  event: string;
  data: { channel: string; channels: ResumeData['channels']; token: string };
}

/** Names the `$resume` by which a link goes on over long polling. */
const GO_ON_ID = 'go-on';

/**
 * A link over `GET {url}/sse`. The channels of a stream are fixed by its URL, so `$resume`, `$subscribe`,
 * `$unsubscribe` and `$auth` open the stream anew, once for all of one turn, from the positions that the client has. A
 * stream has no way up: with the first request the link goes on over long polling, from the same positions.
 */
class SseLink implements ClientLink {
  readonly #context: LinkContext;
  readonly #fetch: typeof fetch;
  readonly #wire: HttpWire;
  /** The channels asked for, with the `$subscribe` that waits for its answer. */
  readonly #channels = new Map<string, FrameId | undefined>();
  #resumeId: FrameId | undefined;
  /** Channels of `$resume` that were refused before it could be answered. */
  #refused: ResumeAnswer['channels'] | undefined;
  #stream: AbortController | undefined;
  #cancelReopen: (() => void) | undefined;
  /** Nothing is sent: the client does not want to, or the hub has no long polling. */
  #receiveOnly: boolean;
  /** The link over long polling, and the requests that wait for it. */
  #poll: PollLink | undefined;
  #waiting: (FrameId | undefined)[] | undefined;

  constructor(context: LinkContext, fetchLike: typeof fetch, receiveOnly: boolean) {
    this.#context = context;
    this.#fetch = fetchLike;
    this.#wire = new HttpWire(context, fetchLike);
    this.#receiveOnly = receiveOnly;
  }

  get name(): string | undefined {
    return this.#poll && !this.#waiting ? 'long-polling' : undefined;
  }

  send(text: string): void {
    const { id, event, data } = JSON.parse(text) as Request;
    if (this.#poll) {
      if (event !== '$subscribe' && event !== '$unsubscribe') this.#waiting?.push(id);
      this.#poll.send(text);
      return;
    }
    switch (event) {
      case '$resume':
        this.#resumeId = id;
        for (const name of Object.keys(data.channels)) this.#channels.set(name, undefined);
        break;
      case '$subscribe':
        this.#channels.set(data.channel, id);
        break;
      case '$unsubscribe':
        this.#channels.delete(data.channel);
        this.#answerSoon({ id, data: null });
        break;
      case '$auth':
        this.#wire.token = data.token;
        break;
      case '$pong':
      case '$cancel':
        return;
      default:
        if (this.#receiveOnly) this.#refuseRequest(id);
        else this.#goOn(id, text);
        return;
    }
    this.#reopenSoon();
  }

  close(goodbye: boolean): void {
    this.#cancelReopen?.();
    this.#stream?.abort();
    this.#poll?.close(goodbye);
  }

  #refuseRequest(id: FrameId | undefined): void {
    const error = new CodedException('not_available').toBody();
    this.#answerSoon(id === undefined ? { event: 'exception', data: error } : { id, error });
  }

  /** Makes a link over long polling with the same channels; the stream goes on until that is open. */
  #goOn(id: FrameId | undefined, text: string): void {
    const poll = new PollLink(
      {
        ...this.#context,
        token: this.#wire.token,
        onFrame: (frame) => this.#polled(frame),
        onEnd: (end) => this.#pollEnded(end),
      },
      this.#fetch,
    );
    this.#poll = poll;
    this.#waiting = [id];
    this.#cancelReopen?.();
    const names = [...this.#channels.keys()];
    const channels = Object.fromEntries(names.map((name) => [name, this.#context.position(name) ?? null]));
    poll.send(JSON.stringify({ id: GO_ON_ID, event: '$resume', data: { client: this.#context.client, channels } }));
    poll.send(text);
  }

  #polled(frame: IncomingFrame): void {
    if (frame.id !== GO_ON_ID) {
      this.#emit(frame);
      return;
    }
    this.#stream?.abort();
    this.#waiting = undefined;
    for (const [name, answer] of Object.entries((frame.data as ResumeAnswer).channels)) {
      if ('error' in answer) this.#refuseChannel(name, answer.error);
      else this.#answerChannel(name, answer);
    }
  }

  #pollEnded(end: LinkEnd): void {
    if (this.#waiting && end.code === 1006 && end.reason.startsWith('HTTP status 4')) {
      const waiting = this.#waiting;
      this.#receiveOnly = true;
      this.#poll = this.#waiting = undefined;
      for (const id of waiting) this.#refuseRequest(id);
      this.#reopenSoon(); // channels may have been added or left meanwhile
    } else this.#end(end);
  }

  #answerSoon(frame: IncomingFrame): void {
    queueMicrotask(() => this.#emit(frame));
  }

  #emit(frame: IncomingFrame): void {
    this.#context.onFrame(frame);
  }

  #end(end: LinkEnd): void {
    this.close(false);
    this.#context.onEnd(end);
  }

  #reopenSoon(): void {
    const reopen = () => this.#reopen();
    // The first stream is the link's own attempt.
    this.#cancelReopen ??= this.#stream ? this.#context.attempt(reopen) : this.#context.clock.after(0, reopen);
  }

  #reopen(): void {
    this.#cancelReopen = undefined;
    this.#stream?.abort();
    if (this.#channels.size > 0) void this.#open((this.#stream = new AbortController()).signal);
    else {
      // Without a channel there is no stream, so nobody would answer.
      if (this.#refused) this.#resumed('', {});
      this.#end({ code: 1006, reason: 'No channel' });
    }
  }

  async #open(signal: AbortSignal): Promise<void> {
    try {
      const response = await this.#wire.request(this.#url(), { headers: this.#headers(), signal });
      if (response.ok && response.body) await this.#read(response.body, signal);
      else await this.#refuse(response, signal);
    } catch (error) {
      if (!signal.aborted) this.#end({ code: 1006, reason: errorOf(error).message });
    }
  }

  #url(): URL {
    const url = this.#wire.url('/sse');
    url.searchParams.set('channels', [...this.#channels.keys()].join(','));
    url.searchParams.set('format', 'frames');
    url.searchParams.set('client', this.#context.client);
    return url;
  }

  #headers(): Record<string, string> {
    const headers: Record<string, string> = { accept: 'text/event-stream, application/json' };
    const positions = [...this.#channels.keys()]
      .map((name, slot) => [slot, this.#context.position(name)] as const)
      .filter((item): item is [number, Position] => item[1] !== undefined);
    // A cursor above the limit is ignored as a whole; a channel left out of it is told as lost, alone.
    while (formatCursor(positions).length > MAX_CURSOR_LENGTH) positions.pop();
    if (positions.length > 0) headers['last-event-id'] = formatCursor(positions);
    return headers;
  }

  async #read(body: ReadableStream<Uint8Array>, signal: AbortSignal): Promise<void> {
    const events = new EventStreamReader((data) => {
      if (signal.aborted) return;
      const frame = readFrame(data);
      if (frame?.event === '$connected') this.#connected(frame.data as ConnectedData);
      else if (frame) this.#emit(frame);
    });
    const reader = body.getReader();
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      if (signal.aborted) return;
      if (done) {
        this.#end({ code: 1006, reason: 'The stream ended' });
        return;
      }
      this.#context.onAlive();
      events.push(decoder.decode(value, { stream: true }));
    }
  }

  #connected({ channels = {}, ...data }: ConnectedData): void {
    this.#emit({ event: '$connected', data });
    if (this.#resumeId !== undefined) {
      this.#resumed(data.connection, channels);
      return;
    }
    for (const [name, answer] of Object.entries(channels)) this.#answerChannel(name, answer);
  }

  /** Tells what became of a channel: the answer to its `$subscribe`, or a loss. */
  #answerChannel(name: string, answer: SubscribeData): void {
    const id = this.#channels.get(name);
    if (id !== undefined) {
      this.#channels.set(name, undefined);
      this.#emit({ id, data: answer });
    } else if (answer.recovered !== true && answer.position !== this.#context.position(name)) {
      this.#emit({ channel: name, event: '$lost', data: { position: answer.position, reason: 'unrecovered' } });
    }
  }

  #resumed(connection: string, channels: ResumeAnswer['channels']): void {
    const id = this.#resumeId;
    const refused = this.#refused;
    this.#resumeId = this.#refused = undefined;
    this.#emit({ id, data: { connection, channels: { ...channels, ...refused } } });
  }

  /** A refusal concerns one channel, the channels that are new, or the connection. */
  async #refuse(response: Response, signal: AbortSignal): Promise<void> {
    const reply = await readReply(response);
    if (signal.aborted) return;
    const { error } = reply;
    if (!error) {
      this.#end(endOfReply(reply));
      return;
    }
    const { channel } = (error.details ?? {}) as { channel?: string };
    const { close, retry } = peerRow(error.code);
    let names = [...this.#channels.keys()];
    if (channel !== undefined && names.includes(channel)) names = [channel];
    else if (close !== undefined || retry !== 'no') names = [];
    else if (this.#resumeId === undefined) names = names.filter((name) => this.#channels.get(name) !== undefined);
    for (const name of names) this.#refuseChannel(name, error);
    if (names.length > 0) this.#reopenSoon();
    else this.#end(endOfReply(reply));
  }

  #refuseChannel(name: string, error: ErrorBody): void {
    const id = this.#channels.get(name);
    this.#channels.delete(name);
    if (this.#resumeId !== undefined) (this.#refused ??= {})[name] = { error };
    else if (id !== undefined) this.#emit({ id, error });
    else {
      const data = { code: error.code, reason: error.message, resubscribe: false };
      this.#emit({ channel: name, event: '$unsubscribed', data });
    }
  }
}

/** Links over server-sent events, read by `fetch`: unlike EventSource it sends the token and the positions. */
export function sseTransport(fetchLike: typeof fetch, receiveOnly: boolean): ClientTransport {
  return { name: 'sse', needsChannel: true, open: (context) => new SseLink(context, fetchLike, receiveOnly) };
}
