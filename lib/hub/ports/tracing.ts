import type { IncomingMessage } from 'node:http';

/** A handshake that begins. */
export interface TracedHandshake {
  /** Its URL holds no credentials any more. */
  readonly request: IncomingMessage;
  /** Where it arrived, as `port:path`, the path with its parameters' names. */
  readonly endpoint: string;
  readonly transport: string;
  /** The path that was matched, with the names of its parameters: one of those that the application serves. */
  readonly route: string;
  /** The path of the request, of any length. */
  readonly path: string;
}

/** A frame of a peer that begins to be served. Its event is one of those that the application or the hub takes. */
export interface TracedFrame {
  readonly event: string;
  /** Whether the peer awaits an answer. */
  readonly answered: boolean;
  readonly connection: { readonly id: string; readonly transport: string; readonly endpoint: string };
  /** What the peer sent as its trace context: anything at all. */
  readonly traceparent: unknown;
  /** Whether it came in a request of its own, which may have a span; else over a link that is older than it. */
  readonly request: boolean;
}

/** A publication that is made. */
export interface TracedPublication {
  readonly channel: string;
  /** The declared pattern of the channel. */
  readonly pattern: string;
  readonly event: string;
}

/** A publication that this node gives to its subscribers. */
export interface TracedDelivery extends TracedPublication {
  readonly subscribers: number;
}

/** What is traced while it lasts. Nothing here throws of itself. */
export interface TraceSpan {
  /** What other nodes go on with: printable ASCII of at most 64 characters, without spaces; none where nobody records it. */
  readonly context: string | undefined;
  /** Runs a function of which this is the span, and all that it awaits. */
  run<T>(fn: () => T): T;
  /** It failed, with the code that is told; `cause` is what was thrown. */
  fail(code: string, cause?: unknown): void;
  /** It is over. Idempotent. */
  end(): void;
}

/** Traces what a node does: `openTelemetry()`. A hub asks for each span as what it is of begins. Nothing here throws. */
export interface Tracing {
  handshake(handshake: TracedHandshake): TraceSpan;
  frame(frame: TracedFrame): TraceSpan;
  /** Belongs to what the application does at the moment. */
  publication(publication: TracedPublication): TraceSpan;
  /** Goes on with a publication of any node, by its span's `context`; none where that is none. */
  delivery(delivery: TracedDelivery, context: string): TraceSpan | undefined;
  /** Runs a function which belongs to no span, whatever it was that caused it. */
  outside(fn: () => void): void;
}
