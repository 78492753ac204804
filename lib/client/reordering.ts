import type { FrameId } from '../protocol/frames.js';
import type { IncomingFrame, LinkContext } from './transport.js';

/**
 * Frames of a link whose answers come another way than the rest: a channel's frames wait for the answer to its
 * `$subscribe`, and those that the client is past already are left out.
 */
export class Reordering {
  readonly #context: LinkContext;
  /** The channels of the `$subscribe` that are not answered. */
  readonly #asked = new Map<FrameId, string>();
  #held: IncomingFrame[] = [];

  constructor(context: LinkContext) {
    this.#context = context;
  }

  /** Whether frames of a channel wait. */
  isWaiting(channel: string): boolean {
    return [...this.#asked.values()].includes(channel);
  }

  /** A `$subscribe` was sent. */
  asked(id: FrameId | undefined, channel: string): void {
    if (id !== undefined) this.#asked.set(id, channel);
  }

  /** Tells which channel's `$subscribe` an answer is to. */
  answered({ id }: IncomingFrame): string | undefined {
    return this.#asked.get(id as FrameId);
  }

  /** Hands over an answer, and then what waited for it. */
  release(answer: IncomingFrame): void {
    this.#asked.delete(answer.id as FrameId);
    this.#context.onFrame(answer);
    const held = this.#held;
    this.#held = [];
    for (const frame of held) this.take(frame);
  }

  /** Takes a frame that is no answer to what was sent. */
  take(frame: IncomingFrame): void {
    const channel = frame.channel as string | undefined;
    if (channel !== undefined && this.isWaiting(channel)) this.#held.push(frame);
    else if (channel === undefined || !this.#isPast(frame, channel)) this.#context.onFrame(frame);
  }

  #isPast({ offset }: IncomingFrame, channel: string): boolean {
    const position = this.#context.position(channel);
    return typeof offset === 'number' && position !== undefined && offset <= Number(position.split('-')[1]);
  }
}
