import type { ConnectedData, FrameId, ResumeData } from '../protocol/frames.js';
import type { Position } from '../protocol/position.js';
import { endOfReply, HttpWire, noReply, type Reply } from './http-wire.js';
import { Reordering } from './reordering.js';
import type { ClientLink, ClientTransport, IncomingFrame, LinkContext, LinkEnd } from './transport.js';
import { reactionTo, Upstream } from './upstream.js';

/** What the client sends, as far as this link looks at it. */
interface Sent {
  readonly id?: FrameId;
  readonly event: string;
  readonly data: ResumeData & { channel: string; token: string };
}

/** The hub answers a poll within 25 s: a link is not silent before that. */
const LEAST_HEARTBEAT_MS = 30_000;
/** A request may have 256 KiB. */
const MAX_FRAME_BYTES = 250_000;
/** From the beginning of a poll to the next one, so that a busy channel comes in lots. */
const LEAST_INTERVAL_MS = 100;

/**
 * A link over `POST {url}/poll`, one after another, and `POST {url}/send`. It is a connection at the hub that outlives
 * single requests, whichever node they come to: one that fails is made again.
 */
export class PollLink implements ClientLink {
  readonly #context: LinkContext;
  readonly #wire: HttpWire;
  readonly #frames: Reordering;
  /** Where each channel is, as the hub told. */
  readonly #positions = new Map<string, Position>();
  #request: AbortController | undefined;
  #over = false;
  #upstream: Upstream | undefined;
  /** What is sent before there is a connection. */
  readonly #held: string[] = [];
  #pass = '';
  #inbox = 0;
  #body = '';
  #failures = 0;
  #cancel: (() => void) | undefined;

  constructor(context: LinkContext, fetchLike: typeof fetch) {
    this.#context = context;
    this.#wire = new HttpWire(context, fetchLike);
    this.#frames = new Reordering(context);
  }

  send(text: string): void {
    const { id, event, data } = JSON.parse(text) as Sent;
    if (event === '$resume') {
      void this.#open(id, data);
      return;
    }
    if (event === '$pong') return; // polls are signs of life
    if (event === '$auth') this.#wire.token = data.token;
    if (event === '$subscribe') this.#frames.asked(id, data.channel);
    if (event === '$unsubscribe') this.#positions.delete(data.channel);
    if (this.#upstream) this.#upstream.send(text);
    else this.#held.push(text);
  }

  close(goodbye: boolean): void {
    this.#over = true;
    this.#cancel?.();
    this.#request?.abort();
    // The hub would wait for the next poll; members of a channel see at once who leaves.
    const left = goodbye ? [...this.#positions.keys()] : [];
    this.#upstream?.leave(left.map((channel) => JSON.stringify({ event: '$unsubscribe', data: { channel } })));
  }

  #end(end: LinkEnd): void {
    this.close(false);
    this.#context.onEnd(end);
  }

  async #post(body: object | string): Promise<Reply> {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    this.#request = new AbortController();
    return this.#wire.post('/poll', text, { signal: this.#request.signal }).catch(noReply);
  }

  /** The first poll makes the connection; it is the link's own attempt. */
  async #open(id: FrameId | undefined, { client, channels: positions }: ResumeData): Promise<void> {
    const reply = await this.#post({ client, positions });
    if (this.#over) return;
    const { pass, frames } = reply.body ?? {};
    const connected = (Array.isArray(frames) ? (frames[0] as IncomingFrame | undefined) : undefined)?.data;
    if (typeof pass !== 'string' || connected === undefined) {
      this.#end(endOfReply(reply));
      return;
    }
    const { channels = {}, ...data } = connected as ConnectedData;
    const { connection, heartbeatMs, maxFrameBytes } = data;
    this.#pass = pass;
    const parts = { context: this.#context, wire: this.#wire, pass };
    this.#upstream = new Upstream(
      parts,
      (frame) => this.#answered(frame),
      (end) => this.#end(end),
    );
    this.#context.onFrame({
      event: '$connected',
      data: {
        ...data,
        heartbeatMs: Math.max(heartbeatMs, LEAST_HEARTBEAT_MS),
        maxFrameBytes: Math.min(maxFrameBytes ?? Infinity, MAX_FRAME_BYTES),
      },
    });
    this.#take(reply);
    this.#context.onFrame({ id, data: { connection, channels } });
    if (this.#over) return;
    for (const text of this.#held.splice(0)) this.#upstream.send(text);
    this.#pollSoon();
  }

  #answered(frame: IncomingFrame): void {
    const channel = this.#frames.answered(frame);
    const position = (frame.data as { position?: Position } | null)?.position;
    if (channel !== undefined && position !== undefined && !this.#positions.has(channel)) {
      this.#positions.set(channel, position);
    }
    this.#frames.release(frame);
  }

  /** The next poll; one behind a failure, or that would ask the same again, takes an attempt from the client's budget. */
  #pollSoon(waitMs = 0): void {
    const poll = () => void this.#poll();
    const isAgain = this.#failures > 0 || this.#makeBody() === this.#body;
    this.#cancel = isAgain
      ? this.#context.attempt(poll, this.#failures, waitMs)
      : this.#context.clock.after(waitMs, poll);
  }

  #makeBody(): string {
    const positions: Record<string, Position> = {};
    for (const [channel, told] of this.#positions) {
      // What waits for its channel's answer has come, though the client has not seen it.
      positions[channel] = this.#frames.isWaiting(channel) ? told : (this.#context.position(channel) ?? told);
    }
    return JSON.stringify({ pass: this.#pass, inbox: this.#inbox, positions });
  }

  async #poll(): Promise<void> {
    const { clock } = this.#context;
    const startedAt = clock.now();
    this.#body = this.#makeBody();
    const reply = await this.#post(this.#body);
    if (this.#over) return;
    const frames = reply.body?.frames;
    if (!Array.isArray(frames)) {
      const reaction = reactionTo(reply, ++this.#failures);
      if ('end' in reaction) this.#end(reaction.end);
      else this.#pollSoon(reaction.afterMs);
      return;
    }
    this.#failures = 0;
    this.#context.onAlive();
    this.#take(reply);
    for (const frame of frames as IncomingFrame[]) {
      if (this.#over) return;
      if (frame.event === '$unsubscribed') this.#positions.delete(frame.channel as string);
      this.#frames.take(frame);
    }
    if (!this.#over) this.#pollSoon(Math.max(0, startedAt + LEAST_INTERVAL_MS - clock.now()));
  }

  /** Takes what the hub says about where the link is. */
  #take({ body }: Reply): void {
    const { positions, inbox } = body as { positions?: Record<string, Position>; inbox?: number };
    for (const [channel, position] of Object.entries(positions ?? {})) this.#positions.set(channel, position);
    this.#inbox = inbox ?? this.#inbox;
  }
}

/** Links over long polling: for networks that let nothing else through. */
export function pollTransport(fetchLike: typeof fetch): ClientTransport {
  return { name: 'long-polling', open: (context) => new PollLink(context, fetchLike) };
}
