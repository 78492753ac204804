import {
  context,
  ROOT_CONTEXT,
  SpanKind,
  trace,
  type Attributes,
  type Context,
  type SpanContext,
  type Tracer,
  type TracerProvider,
} from '@opentelemetry/api';
import type {
  TracedDelivery,
  TracedFrame,
  TracedHandshake,
  TracedPublication,
  TraceSpan,
  Tracing,
} from '../hub/ports/tracing.js';
import { bounded, OpenTelemetrySpan } from './opentelemetry.span.js';
import { parseTraceparent } from './trace-context.js';

/** How OpenTelemetry is told what a node does. */
export interface OpenTelemetryOptions {
  /** Makes the spans. @defaultValue the provider that is registered with `@opentelemetry/api`, whenever that is */
  tracerProvider?: TracerProvider;
  /**
   * Whether the trace contexts that peers send are believed, in the `traceparent` of a handshake or of a frame: what they
   * cause is then part of their trace, and sampled where they say so. Else it is a trace of its own, with a link to theirs:
   * whoever reaches the node can send what it likes. @defaultValue false
   */
  trustPeers?: boolean;
  /**
   * The same for the header `traceparent` of a handshake alone: `true` where a proxy in front of the nodes sets it anew.
   * @defaultValue `trustPeers`
   */
  trustHandshakes?: boolean;
  /**
   * Whether spans hold what exceptions say. That may be what a peer sent: without it they hold the code of the error, and the
   * class and the calls of the exception. @defaultValue false
   */
  exceptionMessages?: boolean;
}

/** Names the spans' source. */
const SCOPE = 'nestjs-realtime';
/** The attributes of a span are one literal each: to spread another one into them costs several times as much. */
const SYSTEM = 'nestjs-realtime';

class OpenTelemetryTracing implements Tracing {
  readonly #tracer: Tracer;
  readonly #trustPeers: boolean;
  readonly #trustHandshakes: boolean;
  readonly #outspoken: boolean;

  constructor({ tracerProvider, trustPeers, trustHandshakes, exceptionMessages }: OpenTelemetryOptions) {
    this.#tracer = (tracerProvider ?? trace).getTracer(SCOPE);
    this.#trustPeers = trustPeers ?? false;
    this.#trustHandshakes = trustHandshakes ?? this.#trustPeers;
    this.#outspoken = exceptionMessages ?? false;
  }

  /** By the conventions for HTTP. An upgrade is nobody's but ours; another request may have a span already. */
  handshake({ request, transport, route, path }: TracedHandshake): TraceSpan {
    const { headers, method = 'GET', socket } = request;
    const attributes = {
      'http.request.method': method,
      'http.route': route,
      'url.path': bounded(path),
      'url.scheme': 'encrypted' in socket && socket.encrypted === true ? 'https' : 'http',
      'realtime.transport': transport,
    };
    const base = headers.upgrade === undefined ? context.active() : ROOT_CONTEXT;
    const from = trace.getSpan(base) === undefined ? parseTraceparent(headers.traceparent) : undefined;
    return this.#fromPeer(`${method} ${route}`, SpanKind.SERVER, attributes, base, from, this.#trustHandshakes);
  }

  /** By the conventions for messaging, with the event as the destination. */
  frame({ event, answered, connection, traceparent, request }: TracedFrame): TraceSpan {
    const attributes = {
      'messaging.system': SYSTEM,
      'messaging.operation.name': 'process',
      'messaging.operation.type': 'process',
      'messaging.destination.name': event,
      'messaging.client.id': connection.id,
      'realtime.endpoint': pathOf(connection.endpoint),
      'realtime.transport': connection.transport,
    };
    const kind = answered ? SpanKind.SERVER : SpanKind.CONSUMER;
    // What is active as a link speaks is whatever was as it was made.
    const base = request ? context.active() : ROOT_CONTEXT;
    return this.#fromPeer(`process ${event}`, kind, attributes, base, parseTraceparent(traceparent), this.#trustPeers);
  }

  publication({ channel, pattern, event }: TracedPublication): TraceSpan {
    const attributes = {
      'messaging.system': SYSTEM,
      'messaging.operation.name': 'publish',
      'messaging.operation.type': 'send',
      'messaging.destination.name': channel,
      'messaging.destination.template': pattern,
      'realtime.event': event,
    };
    return this.#start(`publish ${pattern}`, SpanKind.PRODUCER, attributes, context.active());
  }

  delivery({ channel, pattern, event, subscribers }: TracedDelivery, text: string): TraceSpan | undefined {
    const from = parseTraceparent(text);
    if (from === undefined) return undefined;
    const attributes = {
      'messaging.system': SYSTEM,
      'messaging.operation.name': 'deliver',
      'messaging.operation.type': 'process',
      'messaging.destination.name': channel,
      'messaging.destination.template': pattern,
      'realtime.event': event,
      'realtime.subscribers': subscribers,
    };
    const parent = trace.setSpanContext(ROOT_CONTEXT, from);
    return this.#start(`deliver ${pattern}`, SpanKind.CONSUMER, attributes, parent);
  }

  outside(fn: () => void): void {
    context.with(ROOT_CONTEXT, fn);
  }

  /** A span of what a peer caused, which goes on with the peer's trace or has a link to it. */
  #fromPeer(
    name: string,
    kind: SpanKind,
    attributes: Attributes,
    base: Context,
    from: SpanContext | undefined,
    trusted: boolean,
  ): TraceSpan {
    if (from === undefined) return this.#start(name, kind, attributes, base);
    if (trusted) return this.#start(name, kind, attributes, trace.setSpanContext(base, from));
    return this.#start(name, kind, attributes, base, from);
  }

  #start(name: string, kind: SpanKind, attributes: Attributes, parent: Context, link?: SpanContext): TraceSpan {
    const links = link === undefined ? [] : [{ context: link }];
    const span = this.#tracer.startSpan(name, { kind, attributes, links }, parent);
    return new OpenTelemetrySpan(span, parent, this.#outspoken);
  }
}

/** The path of an endpoint, which is `port:path`. */
function pathOf(endpoint: string): string {
  return endpoint.slice(endpoint.indexOf(':') + 1);
}

/**
 * Traces a node with OpenTelemetry: `tracing: openTelemetry()` of the module. The SDK is the application's own, with its
 * context manager, which `NodeSDK` and `NodeTracerProvider.register()` set: by it spans of the application belong to the
 * handler in which they were made. Spans hold neither data nor credentials.
 */
export function openTelemetry(options: OpenTelemetryOptions = {}): Tracing {
  return new OpenTelemetryTracing(options);
}
