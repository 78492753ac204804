import { peerRow } from '../protocol/errors.js';
import { endOfReply, noReply, type HttpWire, type Reply } from './http-wire.js';
import { byteLength, type IncomingFrame, type LinkContext, type LinkEnd } from './transport.js';

/** What a request may hold. */
const MAX_FRAMES = 64;
const MAX_BYTES = 192 * 1024;
/** How long a request may take: the hub answers within 20 s, what takes longer comes by the other way. */
const TIMEOUT_MS = 30_000;
/** Failures in a row after which a link is over. */
export const MAX_FAILURES = 4;
/** Between requests that nobody waits for: a busy channel's polls, and acknowledgements. */
export const LEAST_INTERVAL_MS = 100;
/** Frames of the inbox after which the hub is told that they have come. */
const ACKNOWLEDGE_EVERY = 32;
/** A wait that the hub asks for and that a link does not sit out. */
const MAX_WAIT_MS = 5_000;

/** What becomes of a request that failed: it is made again after `afterMs`, or its link ends. */
export function reactionTo(reply: Reply, failures: number): { afterMs: number } | { end: LinkEnd } {
  const { status, error, retryAfterMs } = reply;
  const passes = error ? peerRow(error.code).retry === 'yes' : status !== 401;
  if (passes && failures < MAX_FAILURES && retryAfterMs <= MAX_WAIT_MS) return { afterMs: retryAfterMs };
  return { end: endOfReply(reply) };
}

/**
 * What a link sends where its wire has no way up: `POST {url}/send`, one request at a time, in order, numbered. One that
 * failed is made again under its number, so that the hub runs it once; one that the hub still runs, until it is answered.
 */
export class Upstream {
  readonly #context: LinkContext;
  readonly #wire: HttpWire;
  readonly #pass: string;
  readonly #end: (end: LinkEnd) => void;
  readonly #onFrame: (frame: IncomingFrame) => void;
  #waiting: string[] = [];
  #seq = 0;
  #failures = 0;
  #busy = false;
  /** The newest frame of the inbox that came, and the newest that the hub was told of. */
  #inbox = 0;
  #acknowledged = 0;
  #acknowledging: (() => void) | undefined;
  #request: AbortController | undefined;
  #cancel: (() => void) | undefined;

  constructor(
    parts: { context: LinkContext; wire: HttpWire; pass: string },
    onFrame: (frame: IncomingFrame) => void,
    end: (end: LinkEnd) => void,
  ) {
    this.#context = parts.context;
    this.#wire = parts.wire;
    this.#pass = parts.pass;
    this.#onFrame = onFrame;
    this.#end = end;
  }

  /** Sends a frame, with all others of this turn that there is room for. */
  send(text: string): void {
    this.#waiting.push(text);
    if (this.#busy) return;
    this.#busy = true;
    queueMicrotask(() => this.#next());
  }

  /** A frame of the inbox has come by a stream: the hub is told with what is sent next, or after many. */
  acknowledge(inbox: number): void {
    this.#inbox = inbox;
    if (inbox - this.#acknowledged < ACKNOWLEDGE_EVERY || this.#acknowledging) return;
    this.#acknowledging = this.#context.clock.after(LEAST_INTERVAL_MS, () => {
      this.#acknowledging = undefined;
      this.#acknowledged = this.#inbox;
      this.#tell({ inbox: this.#inbox });
    });
  }

  /** Ends; `goodbye` ends the connection too, for which the hub would wait else. */
  close(goodbye: boolean): void {
    this.#busy = true;
    this.#waiting = [];
    this.#cancel?.();
    this.#acknowledging?.();
    this.#request?.abort();
    this.#request = undefined;
    if (goodbye) this.#tell({ end: true });
  }

  /** Says what needs no answer. */
  #tell(what: object): void {
    this.#wire.post('/send', JSON.stringify({ pass: this.#pass, ...what }), { keepalive: true }).catch(() => {});
  }

  #body(seq: number, frames: readonly string[]): string {
    const inbox = this.#inbox > this.#acknowledged ? `"inbox":${this.#inbox},` : '';
    this.#acknowledged = this.#inbox;
    return `{"pass":${JSON.stringify(this.#pass)},${inbox}"seq":${seq},"frames":[${frames.join(',')}]}`;
  }

  #next(): void {
    let room = MAX_BYTES;
    let count = 0;
    for (const text of this.#waiting) {
      room -= byteLength(text);
      if (count > 0 && (room < 0 || count >= MAX_FRAMES)) break;
      count++;
    }
    this.#busy = count > 0;
    if (this.#busy) void this.#post(this.#body(++this.#seq, this.#waiting.splice(0, count)));
  }

  async #post(body: string): Promise<void> {
    const request = (this.#request = new AbortController());
    const { signal } = request;
    const cancelTimer = this.#context.clock.after(TIMEOUT_MS, () => request.abort());
    this.#cancel = cancelTimer;
    const reply = await this.#wire.post('/send', body, { signal }).catch(noReply);
    cancelTimer();
    if (request !== this.#request) return; // closed meanwhile
    const frames = reply.body?.frames;
    if (Array.isArray(frames)) {
      this.#failures = 0;
      this.#context.onAlive();
      for (const frame of frames as IncomingFrame[]) this.#onFrame(frame);
      this.#next();
      return;
    }
    // The hub is there: it tells when a node that died is known to have done so, within 30 s.
    this.#failures = reply.error?.code === 'send_in_progress' ? 1 : this.#failures + 1;
    const reaction = reactionTo(reply, this.#failures);
    if ('end' in reaction) this.#end(reaction.end);
    else this.#cancel = this.#context.attempt(() => void this.#post(body), this.#failures, reaction.afterMs);
  }
}
