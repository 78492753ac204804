import { formatCursor, MAX_CURSOR_LENGTH } from '../protocol/cursor.js';
import { peerRow, isErrorCode, CodedException, type ErrorBody } from '../protocol/errors.js';
import type { ConnectedData, FrameId, ResumeAnswer, ResumeData } from '../protocol/frames.js';
import type { Position } from '../protocol/position.js';
import { EventStreamReader } from './event-stream.js';
import { endOf, errorOf } from './failures.js';
import {
  readFrame,
  type ClientLink,
  type ClientTransport,
  type IncomingFrame,
  type LinkContext,
  type LinkEnd,
} from './transport.js';

/** What the client sends, as far as this link looks at it. */
interface Request {
  id?: FrameId;
  event: string;
  data: { channel: string; channels: ResumeData['channels']; token: string };
}

/**
 * A link over `GET {url}/sse`. The channels of a stream are fixed by its URL, so `$resume`, `$subscribe`,
 * `$unsubscribe` and `$auth` open the stream anew, once for all of one turn, from the positions that the client has.
 */
class SseLink implements ClientLink {
  readonly #context: LinkContext;
  readonly #fetch: typeof fetch;
  /** The channels asked for, with the `$subscribe` that waits for its answer. */
  readonly #channels = new Map<string, FrameId | undefined>();
  #token: string | null;
  #resumeId: FrameId | undefined;
  /** Channels of `$resume` that were refused before it could be answered. */
  #refused: ResumeAnswer['channels'] | undefined;
  #stream: AbortController | undefined;
  #cancelReopen: (() => void) | undefined;

  constructor(context: LinkContext, fetchLike: typeof fetch) {
    this.#context = context;
    this.#fetch = fetchLike;
    this.#token = context.token;
  }

  send(text: string): void {
    const { id, event, data } = JSON.parse(text) as Request;
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
        this.#token = data.token;
        break;
      case '$pong':
      case '$cancel':
        return;
      default: {
        const error = new CodedException('not_available').toBody();
        this.#answerSoon(id === undefined ? { event: 'exception', data: error } : { id, error });
        return;
      }
    }
    this.#reopenSoon();
  }

  close(): void {
    this.#cancelReopen?.();
    this.#stream?.abort();
  }

  #answerSoon(frame: IncomingFrame): void {
    queueMicrotask(() => this.#emit(frame));
  }

  #emit(frame: IncomingFrame): void {
    this.#context.onFrame(frame);
  }

  #end(end: LinkEnd): void {
    this.close();
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
    const fetchLike = this.#fetch; // as a method of this class the browser's own fetch would refuse to run
    try {
      const response = await fetchLike(this.#url(), { headers: this.#headers(), cache: 'no-store', signal });
      if (response.ok && response.body) await this.#read(response.body, signal);
      else await this.#refuse(response, signal);
    } catch (error) {
      if (!signal.aborted) this.#end({ code: 1006, reason: errorOf(error).message });
    }
  }

  #url(): string {
    const url = new URL(this.#context.url);
    url.pathname = url.pathname.replace(/\/*$/, '/sse');
    url.searchParams.set('channels', [...this.#channels.keys()].join(','));
    url.searchParams.set('format', 'frames');
    url.searchParams.set('client', this.#context.client);
    return url.href;
  }

  #headers(): Record<string, string> {
    const headers: Record<string, string> = { accept: 'text/event-stream, application/json' };
    if (this.#token !== null) headers.authorization = `Bearer ${this.#token}`;
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
    for (const [name, answer] of Object.entries(channels)) {
      const id = this.#channels.get(name);
      if (id !== undefined) {
        this.#channels.set(name, undefined);
        this.#emit({ id, data: answer });
      } else if (answer.recovered !== true && answer.position !== this.#context.position(name)) {
        this.#emit({ channel: name, event: '$lost', data: { position: answer.position, reason: 'unrecovered' } });
      }
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
    const body = (await response.json().catch(() => undefined)) as { error?: ErrorBody } | undefined;
    if (signal.aborted) return;
    const error = body?.error;
    const retryAfterMs = error?.retryAfterMs ?? (Number(response.headers.get('retry-after')) * 1000 || 0);
    if (!error || !isErrorCode(error.code)) {
      const code = response.status === 401 ? 4401 : 1006;
      this.#end({ code, reason: `HTTP status ${response.status}`, retryAfterMs });
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
    else this.#end({ ...endOf(error), retryAfterMs });
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
export function sseTransport(fetchLike: typeof fetch): ClientTransport {
  return { name: 'sse', receiveOnly: true, open: (context) => new SseLink(context, fetchLike) };
}
