import { context, ROOT_CONTEXT, trace, type Context, type ContextManager } from '@opentelemetry/api';
import {
  AlwaysOffSampler,
  BasicTracerProvider,
  InMemorySpanExporter,
  ParentBasedSampler,
  SimpleSpanProcessor,
  type ReadableSpan,
} from '@opentelemetry/sdk-trace-base';
import { AsyncLocalStorage } from 'node:async_hooks';
import { until } from './redis-server.js';

/** What `@opentelemetry/context-async-hooks` does: the context is that of the call which something awaits. */
class AsyncContexts implements ContextManager {
  readonly #storage = new AsyncLocalStorage<Context>();

  active(): Context {
    return this.#storage.getStore() ?? ROOT_CONTEXT;
  }

  with<A extends unknown[], F extends (...args: A) => ReturnType<F>>(
    active: Context,
    fn: F,
    thisArg?: ThisParameterType<F>,
    ...args: A
  ): ReturnType<F> {
    return this.#storage.run(active, () => fn.apply(thisArg, args));
  }

  bind<T>(_active: Context, target: T): T {
    return target;
  }

  enable(): this {
    return this;
  }

  disable(): this {
    return this;
  }
}

/** Registers a context manager for the application's own spans; the returned function takes it away. */
export function registerContexts(): () => void {
  context.setGlobalContextManager(new AsyncContexts());
  return () => {
    context.disable();
    trace.disable();
  };
}

/** The spans of one node. */
export class Traces {
  readonly #exporter = new InMemorySpanExporter();
  readonly provider: BasicTracerProvider;

  /** @param sampled - Whether new traces are recorded; those of others always are where they say so. */
  constructor(sampled = true) {
    this.provider = new BasicTracerProvider({
      spanProcessors: [new SimpleSpanProcessor(this.#exporter)],
      ...(sampled ? {} : { sampler: new ParentBasedSampler({ root: new AlwaysOffSampler() }) }),
    });
  }

  /** Those that have ended, by when. */
  get spans(): ReadableSpan[] {
    return this.#exporter.getFinishedSpans();
  }

  /** Forgets what came so far. */
  reset(): void {
    this.#exporter.reset();
  }

  /** The span of this name, once it has ended. */
  async span(name: string): Promise<ReadableSpan> {
    const find = (): ReadableSpan | undefined => this.spans.find((span) => span.name === name);
    await until(() => find() !== undefined, `the span ${name}, beside ${this.spans.map((span) => span.name).join()}`);
    return find()!;
  }

  named(name: string): ReadableSpan[] {
    return this.spans.filter((span) => span.name === name);
  }
}

/** The trace of a span, and of what it is part there. */
export function placeOf(span: ReadableSpan): { trace: string; parent: string | undefined } {
  return { trace: span.spanContext().traceId, parent: span.parentSpanContext?.spanId };
}

export function idOf(span: ReadableSpan): string {
  return span.spanContext().spanId;
}
