import { encodeAnswer, encodeDone, encodeError, toJson } from '../protocol/encode.js';
import { ERRORS, type ErrorBody } from '../protocol/errors.js';
import type { FrameId } from '../protocol/frames.js';
import type { Meter } from './ports/meter.js';
import type { TraceSpan } from './ports/tracing.js';

/** What a call needs of its connection. */
export interface Caller {
  /** Sends an answer; a full outbox ends the connection, as an answer must not get lost. */
  answer(text: string, more?: boolean): void;
  /** Streams, and calls with an id that are in flight: what `$cancel` and the end of the connection stop. */
  readonly calls: Set<Call>;
  /** How many frames are being served: each from its dispatch until it has its answer and its handler has ended. */
  framesInFlight: number;
  /** Whether nothing reaches the peer any more. */
  readonly over: boolean;
  /** The handler has ended, or its stream; what answers the call now comes in this turn, or much later. */
  handled?(): void;
  /** The final answer has gone out, or never will. */
  settled?(): void;
}

/**
 * One inbound frame being handled, and the way back to the peer. With an id exactly one final answer goes out; without
 * one, values go out as @nestjs/platform-ws would send them. Whoever serves it says by {@link handled} when that has ended.
 */
export class Call {
  /** Where it is traced: ends when the call has its answer and its handler has ended. */
  span: TraceSpan | undefined;
  #settled = false;
  /** Whether the handler runs, or the stream that it returned. */
  #running = true;
  #inFlight = true;
  #cancelled = false;
  #stop: (() => void) | undefined;
  /** When it began, where its time is taken, until its handler has ended or returned a stream; else 0. */
  #begun: number;

  constructor(
    private readonly caller: Caller,
    private readonly meter: Meter,
    readonly id: FrameId | undefined,
    readonly event: string,
    /** What names this call over all its attempts, where a peer repeats what it sent: for `@SendKey()`. */
    readonly key?: string,
    /** What counts its event. */
    private readonly tally = meter.event(event),
  ) {
    this.#begun = tally.begin();
    caller.framesInFlight++;
    if (id !== undefined) caller.calls.add(this);
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

  /** The one final answer is an error; `cause` is what was thrown. */
  fail(error: ErrorBody, cause?: unknown): void {
    if (this.#settled) return;
    this.span?.fail(error.code, cause);
    this.#settle();
    this.meter.error(error.code);
    if (error.code === 'rate_limited') this.meter.throttled.add('application');
    this.caller.answer(encodeError(this.id, error));
  }

  /** Makes this call a stream, also where it has its answer: `stop` ends it when the peer cancels or is gone. */
  stream(stop: () => void): void {
    this.#stop = stop;
    this.#timed();
    if (this.caller.over) this.abandon();
    else if (this.#cancelled) this.cancel();
    else this.caller.calls.add(this);
  }

  /** The handler has ended, and the stream that it returned: what answers now is a function that it was given. */
  handled(): void {
    this.#timed();
    this.#running = false;
    this.#stop = undefined;
    this.#leave();
    if (this.caller.over) this.span?.end();
    this.caller.handled?.();
  }

  /**
   * The peer has had enough: a stream stops, and its end is the final answer; so it is where the handler has ended without
   * an answer. What is no stream yet stops as it becomes one; a plain answer comes as ever.
   */
  cancel(): void {
    this.#cancelled = true;
    if (this.#running && this.#stop === undefined) return;
    this.done();
    this.#end();
  }

  /** The peer is gone: nothing goes out any more. What is no stream yet stops as it becomes one. */
  abandon(): void {
    if (!this.#running) this.span?.end(); // no answer comes any more
    if (this.#stop === undefined) return;
    this.#settle();
    this.#end();
  }

  #timed(): void {
    if (this.#begun === 0) return;
    this.tally.end(this.#begun);
    this.#begun = 0;
  }

  #end(): void {
    const stop = this.#stop;
    this.handled();
    stop?.();
  }

  #settle(): void {
    this.#settled = true;
    this.#leave();
    this.caller.settled?.();
  }

  #leave(): void {
    if (this.#running || !this.#inFlight || (this.id !== undefined && !this.#settled)) return;
    this.#inFlight = false;
    this.span?.end();
    this.caller.framesInFlight--;
    this.caller.calls.delete(this);
  }

  #send(data: unknown, more: boolean): boolean {
    if (this.id === undefined && (data === undefined || data === null)) return true;
    let json: string;
    try {
      json = toJson(data);
    } catch {
      this.fail({ code: 'internal', message: ERRORS.internal.message });
      this.cancel(); // a stream that nobody gets any more
      return false;
    }
    this.caller.answer(this.id === undefined ? json : encodeAnswer(this.id, json, more), more);
    return true;
  }
}
