import { encodeAnswer, encodeDone, encodeError, toJson } from '../protocol/encode.js';
import { ERRORS, type ErrorBody } from '../protocol/errors.js';
import type { FrameId } from '../protocol/frames.js';

/** What a call needs of its connection. */
export interface Caller {
  /** Sends an answer; a full outbox ends the connection, as an answer must not get lost. */
  answer(text: string): void;
  /** Streams, and calls that may become some: what `$cancel` and the end of the connection stop. */
  readonly calls: Set<Call>;
  /** Whether nothing reaches the peer any more. */
  readonly over: boolean;
}

/**
 * One inbound frame being handled, and the way back to the peer. With an id exactly one final answer goes out; without
 * one, values go out as @nestjs/platform-ws would send them.
 */
export class Call {
  #settled = false;
  #cancelled = false;
  #stop: (() => void) | undefined;

  constructor(
    private readonly caller: Caller,
    readonly id: FrameId | undefined,
    readonly event: string,
  ) {
    if (id !== undefined) caller.calls.add(this);
  }

  /** Whether the final answer has gone out, or never will. */
  get settled(): boolean {
    return this.#settled;
  }

  /** The one plain answer; further ones are dropped. What JSON cannot hold is answered `internal`. */
  answer(data: unknown): void {
    if (this.#settled) return;
    if (this.#send(data, false)) this.#settle();
  }

  /** A value of a stream; {@link done} or {@link fail} ends it. */
  next(data: unknown): void {
    if (!this.#settled) this.#send(data, true);
  }

  /** Ends a stream. */
  done(): void {
    if (this.#settled) return;
    this.#settle();
    if (this.id !== undefined) this.caller.answer(encodeDone(this.id));
  }

  /** The one final answer is an error. */
  fail(error: ErrorBody): void {
    if (this.#settled) return;
    this.#settle();
    this.caller.answer(encodeError(this.id, error));
  }

  /** Makes this call a stream: `stop` ends it when the peer cancels or is gone. */
  stream(stop: () => void): void {
    this.#stop = stop;
    if (this.#settled || this.caller.over) this.abandon();
    else if (this.#cancelled) this.cancel();
    else this.caller.calls.add(this);
  }

  /** The handler has ended, and there is no stream: what answers answers later, if anything does. */
  handled(): void {
    if (this.id !== undefined) this.caller.calls.delete(this);
  }

  /**
   * The peer has had enough: the stream stops, and its end is the final answer. What is no stream yet stops as it becomes
   * one; a plain answer comes as ever.
   */
  cancel(): void {
    const stop = this.#stop;
    this.#cancelled = true;
    if (stop === undefined) return;
    this.done();
    stop();
  }

  /** The peer is gone: nothing goes out any more. What is no stream yet stops as it becomes one. */
  abandon(): void {
    const stop = this.#stop;
    if (stop === undefined) return;
    this.#settle();
    stop();
  }

  #settle(): void {
    this.#settled = true;
    if (this.id !== undefined || this.#stop !== undefined) this.caller.calls.delete(this);
    this.#stop = undefined;
  }

  #send(data: unknown, more: boolean): boolean {
    if (this.id === undefined && (data === undefined || data === null)) return true;
    let json: string;
    try {
      json = toJson(data);
    } catch {
      this.fail({ code: 'internal', message: ERRORS.internal.message });
      return false;
    }
    this.caller.answer(this.id === undefined ? json : encodeAnswer(this.id, json, more));
    return true;
  }
}
