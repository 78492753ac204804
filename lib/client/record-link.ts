import type { ConnectedData, FrameId, ResumeData, SubscribeData } from '../protocol/frames.js';
import type { Position } from '../protocol/position.js';
import { HttpWire } from './http-wire.js';
import { Reordering } from './reordering.js';
import type { ClientLink, IncomingFrame, LinkContext, LinkEnd } from './transport.js';
import { Upstream } from './upstream.js';

/** What the client sends, as far as these links look at it. */
export interface Sent {
  readonly id?: FrameId;
  readonly event: string;
  readonly data: ResumeData & { channel: string; token: string };
}

/** A request may have 256 KiB. */
const MAX_FRAME_BYTES = 250_000;

/**
 * A link of a connection that the hub keeps by a record, over requests to whichever node: what is sent goes by
 * `POST {url}/send`, what comes is a matter of those who extend it. A request that fails is made again.
 */
export abstract class RecordLink implements ClientLink {
  protected readonly context: LinkContext;
  protected readonly wire: HttpWire;
  readonly #frames: Reordering;
  /** Where each channel is, as the hub told. */
  protected readonly positions = new Map<string, Position>();
  protected request: AbortController | undefined;
  protected over = false;
  /** Empty until there is a connection. */
  protected pass = '';
  protected inbox = 0;
  protected failures = 0;
  protected cancel: (() => void) | undefined;
  protected upstream: Upstream | undefined;
  /** What is sent before there is a connection. */
  readonly #held: string[] = [];
  #resumeId: FrameId | undefined;
  #told = false;

  constructor(context: LinkContext, fetchLike: typeof fetch) {
    this.context = context;
    this.wire = new HttpWire(context, fetchLike);
    this.#frames = new Reordering(context);
  }

  /** Asks for a connection; it is the link's own attempt. */
  protected abstract begin(body: object): void;
  /** There is a connection, and the client was told so. */
  protected abstract goOn(): void;

  send(text: string): void {
    const { id, event, data } = JSON.parse(text) as Sent;
    if (event === '$resume') {
      this.#resumeId = id;
      this.begin({ client: data.client, positions: data.channels });
      return;
    }
    if (event === '$pong') return; // requests are signs of life
    if (event === '$auth') this.wire.token = data.token;
    if (event === '$subscribe') this.#frames.asked(id, data.channel);
    if (event === '$unsubscribe') this.positions.delete(data.channel);
    if (this.upstream) this.upstream.send(text);
    else this.#held.push(text);
  }

  close(goodbye: boolean): void {
    this.over = true;
    this.cancel?.();
    this.request?.abort();
    this.upstream?.close(goodbye && !this.#told);
  }

  protected end(end: LinkEnd): void {
    this.close(false);
    this.context.onEnd(end);
  }

  protected opened(pass: string, { channels = {}, ...data }: ConnectedData, leastHeartbeatMs = 0): void {
    const { connection, heartbeatMs, maxFrameBytes } = data;
    this.pass = pass;
    const upstream = new Upstream(
      { context: this.context, wire: this.wire, pass },
      (frame) => this.#answered(frame),
      (end) => this.end(end),
    );
    this.upstream = upstream;
    this.context.onFrame({
      event: '$connected',
      data: {
        ...data,
        heartbeatMs: Math.max(heartbeatMs, leastHeartbeatMs),
        maxFrameBytes: Math.min(maxFrameBytes ?? Infinity, MAX_FRAME_BYTES),
      },
    });
    for (const [name, answer] of Object.entries<Partial<SubscribeData>>(channels)) {
      if (answer.position) this.positions.set(name, answer.position);
    }
    this.context.onFrame({ id: this.#resumeId, data: { connection, channels } });
    if (this.over) return;
    for (const text of this.#held.splice(0)) upstream.send(text);
    this.goOn();
  }

  /** Takes a frame that came from the hub by itself. */
  protected take(frame: IncomingFrame): void {
    if (this.over) return;
    if (frame.event === '$unsubscribed') this.positions.delete(frame.channel as string);
    this.#told ||= frame.event === '$disconnect' && frame.channel === undefined;
    this.#frames.take(frame);
  }

  /** What asks for what comes next. */
  protected makeBody(): string {
    const positions: Record<string, Position> = {};
    for (const [channel, told] of this.positions) {
      // What waits for its channel's answer has come, though the client has not seen it.
      positions[channel] = this.#frames.isWaiting(channel) ? told : (this.context.position(channel) ?? told);
    }
    return JSON.stringify({ pass: this.pass, inbox: this.inbox, positions });
  }

  #answered(frame: IncomingFrame): void {
    const channel = this.#frames.answered(frame);
    const position = (frame.data as { position?: Position } | null)?.position;
    if (channel !== undefined && position !== undefined && !this.positions.has(channel)) {
      this.positions.set(channel, position);
    }
    this.#frames.release(frame);
  }
}
