import {
  context,
  SpanStatusCode,
  trace,
  TraceFlags,
  type Attributes,
  type Context,
  type Span,
} from '@opentelemetry/api';
import type { TraceSpan } from '../hub/ports/tracing.js';
import { formatTraceparent } from './trace-context.js';

/** What is kept of a text that is not ours. */
const MAX_TEXT = 256;
const MAX_STACK = 4_096;

/** A text that is not ours, no longer than an attribute should be. */
export function bounded(text: string, max = MAX_TEXT): string {
  return text.length <= max ? text : text.slice(0, max);
}

/** A span of OpenTelemetry, in the context that it was started in. */
export class OpenTelemetrySpan implements TraceSpan {
  readonly #span: Span;
  readonly #parent: Context;
  /** Whether what exceptions say is written down. */
  readonly #outspoken: boolean;

  constructor(span: Span, parent: Context, outspoken: boolean) {
    this.#span = span;
    this.#parent = parent;
    this.#outspoken = outspoken;
  }

  get context(): string | undefined {
    const of = this.#span.spanContext();
    return (of.traceFlags & TraceFlags.SAMPLED) === 0 ? undefined : formatTraceparent(of);
  }

  run<T>(fn: () => T): T {
    return context.with(trace.setSpan(this.#parent, this.#span), fn);
  }

  fail(code: string, cause?: unknown): void {
    if (!this.#span.isRecording()) return;
    this.#span.setAttribute('error.type', bounded(code));
    this.#span.setStatus({ code: SpanStatusCode.ERROR, message: code });
    this.#span.addEvent('exception', this.#exception(code, cause));
  }

  end(): void {
    if (this.#span.isRecording()) this.#span.end();
  }

  /** By the names of the conventions. What was thrown may hold what a peer sent: of that only its class and its stack are told. */
  #exception(code: string, cause: unknown): Attributes {
    if (!(cause instanceof Error)) return { 'exception.type': code, 'exception.message': code };
    const { message, stack } = cause;
    return {
      'exception.type': bounded(cause.constructor.name),
      'exception.message': this.#outspoken ? bounded(message) : code,
      'exception.stacktrace': bounded(callsOf(stack, message), MAX_STACK),
    };
  }
}

/** The calls of a stack, without the message before them; none where that is not found. */
function callsOf(stack: unknown, message: string): string {
  const at = typeof stack === 'string' ? stack.indexOf(message) : -1;
  if (at < 0) return '';
  return (stack as string)
    .slice(at + message.length)
    .split('\n')
    .filter((line) => /^\s+at /.test(line))
    .join('\n');
}
