import type { ArgumentsHost } from '@nestjs/common';
import { isObservable, type Observable } from 'rxjs';
import { ERRORS, type ErrorBody } from '../protocol/errors.js';
import type { Call } from '../hub/call.js';
import type { Connection } from '../hub/connection.js';
import { describeError } from './describe-error.js';
import type { BoundHandler } from './gateway-endpoints.js';

const CALL = Symbol.for('nestjs-realtime:gateway-call');

/** What a handler gets as its third argument, and `@Ack()` injects: answers the frame. */
export type Reply = (data?: unknown) => void;

/** The frame that something in Nest's pipeline is for, found by the function that answers it. */
export function gatewayCallOf(host: ArgumentsHost): GatewayCall | undefined {
  const reply: unknown = host.getArgs()[2];
  return typeof reply === 'function' ? (reply as { [CALL]?: GatewayCall })[CALL] : undefined;
}

/** Gives a frame to a handler and answers with what becomes of it. Never throws. */
export function dispatch(
  connection: Connection,
  { callback, isAckHandledManually }: BoundHandler,
  data: unknown,
  call: Call,
): void {
  const pending = new GatewayCall(connection, call, isAckHandledManually === true);
  const reply: Reply & { [CALL]?: GatewayCall } = (answer) => pending.reply(answer);
  reply[CALL] = pending;
  let result: unknown;
  try {
    result = callback(data, reply);
  } catch (error) {
    pending.threw(error);
    return;
  }
  Promise.resolve(result).then(
    (value) => pending.settle(value),
    (error: unknown) => pending.threw(error),
  );
}

/**
 * A frame in a gateway's handler. With an id exactly one answer goes out: what the handler returned (of a `WsResponse`,
 * an object of exactly `event` and `data`, its data; `undefined` as `null`), what it gave to `@Ack()`, the values of its
 * observable, or the error. Without an id everything goes out as @nestjs/platform-ws would send it.
 */
export class GatewayCall {
  /** What the handler's own filter is doing with an exception. */
  #filtering: Promise<unknown> | undefined;
  #filtered: unknown;
  /** A value of an observable that waits to be known as the only one. */
  #held: { readonly value: unknown } | undefined;
  #streaming = false;

  constructor(
    private readonly connection: Connection,
    private readonly call: Call,
    private readonly manual: boolean,
  ) {}

  /** What names the frame over all its attempts. */
  get key(): string | undefined {
    return this.call.key;
  }

  /** The handler answers by itself. */
  reply(data: unknown): void {
    this.call.answer(data);
  }

  /** The answer is an error; values that came before it go first. `cause` is what was thrown. */
  fail(error: ErrorBody, cause: unknown): void {
    this.#flush();
    this.call.fail(error, cause);
  }

  threw(error: unknown): void {
    this.fail(describeError(error), error);
    this.call.handled();
  }

  /** A filter of the application took an exception of this call. Returns what Nest gets. */
  filtered(outcome: unknown, exception: unknown): unknown {
    this.#filtered = exception;
    const filtering = Promise.resolve(outcome).catch((error: unknown) => this.threw(error));
    this.#filtering = filtering;
    return filtering;
  }

  /** The pipeline has ended, with the handler's result. */
  settle(result: unknown): void {
    if (isObservable(result)) {
      this.#subscribe(result);
      return;
    }
    this.call.handled();
    if (result === undefined && this.#filtering !== undefined) this.#refuse(this.#filtering);
    else if (this.manual) this.#emit(result);
    else this.call.answer(this.#answerOf(result));
  }

  #subscribe(values: Observable<unknown>): void {
    const subscription = values.subscribe({
      next: (value) => this.#next(value),
      error: (error: unknown) => this.threw(error),
      complete: () => {
        this.#complete();
        this.call.handled();
      },
    });
    // What answered already runs to its end, or that of the connection: an interceptor may watch for it.
    if (!subscription.closed) this.call.stream(() => subscription.unsubscribe());
  }

  #next(value: unknown): void {
    if (this.manual) {
      this.#emit(value);
    } else if (this.#streaming) {
      this.call.next(this.#answerOf(value));
    } else if (this.#held === undefined) {
      this.#held = { value };
      queueMicrotask(() => this.#flush());
    } else {
      this.#flush();
      this.call.next(this.#answerOf(value));
    }
  }

  #complete(): void {
    if (this.#filtering !== undefined) {
      this.#flush();
      this.#refuse(this.#filtering);
    } else if (this.#streaming) {
      this.call.done();
    } else if (!this.manual) {
      const only = this.#held?.value;
      this.#held = undefined;
      this.call.answer(this.#answerOf(only));
    }
  }

  /** The held value is one of several. */
  #flush(): void {
    if (this.#held === undefined) return;
    this.call.next(this.#answerOf(this.#held.value));
    this.#held = undefined;
    this.#streaming = true;
  }

  /** A filter swallowed an exception: where it did not answer, that is no success. */
  #refuse(filtering: Promise<unknown>): void {
    if (this.call.id === undefined) return;
    const error = { code: 'rejected', message: ERRORS.rejected.message } as const;
    void filtering.then(() => this.call.fail(error, this.#filtered));
  }

  /** A handler with `@Ack()` may still send an event. */
  #emit(result: unknown): void {
    if (isWsResponse(result)) this.connection.emit(result.event, result.data);
  }

  #answerOf(result: unknown): unknown {
    return this.call.id !== undefined && isWsResponse(result) ? result.data : result;
  }
}

function isWsResponse(result: unknown): result is { event: string; data: unknown } {
  if (typeof result !== 'object' || result === null) return false;
  const { event } = result as { event?: unknown };
  return typeof event === 'string' && 'data' in result && Object.keys(result).length === 2;
}
