import type { ConnectedData } from '../protocol/frames.js';
import type { Position } from '../protocol/position.js';
import { endOfReply, noReply, type Reply } from './http-wire.js';
import { RecordLink } from './record-link.js';
import type { ClientTransport, IncomingFrame } from './transport.js';
import { LEAST_INTERVAL_MS, reactionTo } from './upstream.js';

/** The hub answers a poll within 25 s: a link is not silent before that. */
const LEAST_HEARTBEAT_MS = 30_000;

/** A link over `POST {url}/poll`, one after another. */
class PollLink extends RecordLink {
  #body = '';

  protected begin(body: object): void {
    void this.#open(body);
  }

  protected goOn(): void {
    this.#pollSoon();
  }

  async #post(body: string): Promise<Reply> {
    this.request = new AbortController();
    return this.wire.post('/poll', body, { signal: this.request.signal }).catch(noReply);
  }

  /** The first poll makes the connection. */
  async #open(body: object): Promise<void> {
    const reply = await this.#post(JSON.stringify(body));
    if (this.over) return;
    const { pass, frames } = reply.body ?? {};
    const connected = (Array.isArray(frames) ? (frames[0] as IncomingFrame | undefined) : undefined)?.data;
    if (typeof pass !== 'string' || connected === undefined) this.end(endOfReply(reply));
    else this.opened(pass, connected as ConnectedData, LEAST_HEARTBEAT_MS);
  }

  /** The next poll; one behind a failure, or that would ask the same again, takes an attempt from the client's budget. */
  #pollSoon(waitMs = 0): void {
    const poll = () => void this.#poll();
    const isAgain = this.failures > 0 || this.makeBody() === this.#body;
    this.cancel = isAgain ? this.context.attempt(poll, this.failures, waitMs) : this.context.clock.after(waitMs, poll);
  }

  async #poll(): Promise<void> {
    const { clock } = this.context;
    const startedAt = clock.now();
    this.#body = this.makeBody();
    const reply = await this.#post(this.#body);
    if (this.over) return;
    const { frames, positions = {}, inbox = this.inbox } = reply.body ?? {};
    if (!Array.isArray(frames)) {
      const reaction = reactionTo(reply, ++this.failures);
      if ('end' in reaction) this.end(reaction.end);
      else this.#pollSoon(reaction.afterMs);
      return;
    }
    this.failures = 0;
    this.context.onAlive();
    for (const [channel, position] of Object.entries(positions as Record<string, Position>)) {
      this.positions.set(channel, position);
    }
    this.inbox = inbox as number;
    for (const frame of frames as IncomingFrame[]) this.take(frame);
    if (!this.over) this.#pollSoon(Math.max(0, startedAt + LEAST_INTERVAL_MS - clock.now()));
  }
}

/** Links over long polling: for networks that let nothing else through. */
export function pollTransport(fetchLike: typeof fetch): ClientTransport {
  return { name: 'long-polling', open: (context) => new PollLink(context, fetchLike) };
}
