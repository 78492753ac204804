import { Backoff, type BackoffOptions } from './backoff.js';
import { systemClock, type ClientClock } from './clock.js';
import { lazyTransport } from './lazy.transport.js';
import { Memory, type ClientStorage } from './memory.js';
import type { ClientTransport } from './transport.js';
import { browserWakeUps } from './wake-ups.js';
import { webSocketTransport, type WebSocketConstructor } from './websocket.transport.js';

/** A transport that the client knows by name. */
export type TransportName = 'websocket' | 'sse' | 'long-polling';

/** Options of a client. All are optional. */
export interface ClientOptions {
  /**
   * The token that the hub's authenticator verifies, or a function that fetches one; `null` connects without. A
   * function is asked at first, when the hub asks for a newer token, and after a token was refused; when two tokens
   * fetched in a row are refused, the client is closed. Without a function it is closed by the first refusal. A fetch
   * that fails is told as `error` and made again, with backoff.
   * @defaultValue no token
   */
  token?: string | (() => string | null | Promise<string | null>);
  /**
   * Which transports are tried, in order: the next one when one could not be opened, or breaks within 5 s; one that has
   * worked gets three attempts. A client on another one than the first stays there when its link is cut, and looks for a
   * better one: while its link is open those before it are tried in turn by links of their own, after 30 s and then less
   * often, down to every 5 minutes. The first one must exist here (Node 20 has no WebSocket, see `WebSocket`), or the
   * constructor throws; others that do not exist are left out.
   * @defaultValue `['websocket', 'sse', 'long-polling']`, with `receiveOnly` `['sse', 'websocket', 'long-polling']`
   */
  transports?: readonly (TransportName | ClientTransport)[];
  /**
   * The client only receives: SSE comes first, which passes more proxies. Over SSE `publish`, `request`, `history` and
   * `presence` reject with `not_available`.
   * @defaultValue false
   */
  receiveOnly?: boolean;
  /**
   * Shares one connection among the tabs of a browser: the clients of this origin with the same address and the same name
   * here. Name the user in it: whose tab holds the connection, as that user all of them are. Channels, answers and recovery
   * stay each tab's own. What is sent to the connection or the user and not to a channel reaches all tabs, limits count for
   * all together, and `transport` is `shared`. `receiveOnly` decides only which transport comes first. Where the browser
   * gives no Web Locks (a page that is not secure, a sandboxed frame) each tab has its own connection.
   * @defaultValue a connection for this client alone
   */
  share?: string;
  /** How the client comes back after a failure. */
  backoff?: BackoffOptions;
  /** Bounds what waits for a link; one request more rejects with `rate_limited`. */
  queue?: {
    /** Requests and publishes; no more than a hub takes at once. @defaultValue 128 */
    maxCount?: number;
    /** Bytes, as the length of the frames' text. @defaultValue 1_048_576 */
    maxBytes?: number;
  };
  /**
   * How long a request may take; after that it rejects, with `outcome_unknown` if it was sent and `not_available` if
   * it was not. A publish is not limited while there is no link. Milliseconds.
   * @defaultValue 15_000
   */
  requestTimeoutMs?: number;
  /**
   * How long a link may take to open, and before that the token to come; after that the next attempt follows.
   * Milliseconds.
   * @defaultValue 10_000
   */
  connectTimeoutMs?: number;
  /**
   * How long a link may take to give a first sign, an open socket or a byte of a stream, where another transport is left
   * to try; after that the next one follows. Finds networks that swallow WebSocket, and proxies that hold streams back.
   * Milliseconds.
   * @defaultValue 4_000
   */
  firstByteMs?: number;
  /**
   * How long it is remembered, for the pages to come, that another transport than the first one works: they begin with
   * it. Milliseconds; 0 remembers nothing.
   * @defaultValue 600_000
   */
  rememberMs?: number;
  /** Where that is remembered; `null`: nowhere. @defaultValue the page's `localStorage`, where that may be used */
  storage?: ClientStorage | null;
  /**
   * How much longer than the hub's own heartbeat (interval and timeout, told on connecting) a link may be silent before
   * it is dropped. Milliseconds.
   * @defaultValue 10_000
   */
  heartbeatSlackMs?: number;
  /** The WebSocket constructor, e.g. of the package ws: Node 20 has none. @defaultValue the global one */
  WebSocket?: WebSocketConstructor;
  /** What requests are made with: over SSE and long polling, and for large payloads. @defaultValue the global one */
  fetch?: typeof fetch;
  /**
   * The trace that a request belongs to, as a W3C `traceparent`: asked as each request, publish and event is made, and sent
   * along. Must not throw. @defaultValue nothing is sent
   */
  traceContext?: () => string | undefined;
  /** Time, for tests. */
  clock?: ClientClock;
  /** Random numbers from 0 to 1 for the waits, for tests. */
  random?: () => number;
  /** Registers what is called when the device comes back, and returns what unregisters it. @defaultValue `online` and `visibilitychange` of the page */
  wakeUps?: (fn: () => void) => () => void;
}

/** The options with all defaults filled in. */
export interface ResolvedOptions {
  readonly url: URL;
  readonly token: Exclude<ClientOptions['token'], undefined> | null;
  readonly transports: readonly [ClientTransport, ...ClientTransport[]];
  readonly backoff: Backoff;
  readonly random: () => number;
  readonly maxQueued: number;
  readonly maxQueuedBytes: number;
  readonly requestTimeoutMs: number;
  readonly connectTimeoutMs: number;
  readonly firstByteMs: number;
  readonly memory: Memory;
  readonly heartbeatSlackMs: number;
  readonly clock: ClientClock;
  readonly wakeUps: (fn: () => void) => () => void;
  /** As given. */
  readonly fetch: typeof fetch | undefined;
  readonly traceContext: ClientOptions['traceContext'];
}

const SENDING: readonly TransportName[] = ['websocket', 'sse', 'long-polling'];
const RECEIVING: readonly TransportName[] = ['sse', 'websocket', 'long-polling'];

/** Fills in the defaults. Throws a TypeError for an address or a transport that cannot be used. */
export function resolveOptions(url: string | URL, options: ClientOptions): ResolvedOptions {
  const names = options.transports ?? (options.receiveOnly ? RECEIVING : SENDING);
  const [first, ...others] = names.map((name) => resolveTransport(name, options));
  if (!first) {
    throw new TypeError('No `WebSocket` or `fetch` here: give one');
  }
  const random = options.random ?? Math.random;
  const transports: ResolvedOptions['transports'] = [first, ...others.filter((transport) => transport !== undefined)];
  const resolvedUrl = resolveUrl(url);
  const { origin, pathname } = resolvedUrl;
  return {
    url: resolvedUrl,
    token: options.token ?? null,
    transports,
    backoff: new Backoff(options.backoff ?? {}, random),
    random,
    maxQueued: options.queue?.maxCount ?? 128,
    maxQueuedBytes: options.queue?.maxBytes ?? 1_048_576,
    requestTimeoutMs: options.requestTimeoutMs ?? 15_000,
    connectTimeoutMs: options.connectTimeoutMs ?? 10_000,
    firstByteMs: options.firstByteMs ?? 4_000,
    memory: new Memory(`nestjs-realtime ${origin}${pathname}`, options.rememberMs ?? 600_000, options.storage),
    heartbeatSlackMs: options.heartbeatSlackMs ?? 10_000,
    clock: options.clock ?? systemClock,
    wakeUps: options.wakeUps ?? browserWakeUps,
    fetch: options.fetch,
    traceContext: options.traceContext,
  };
}

function resolveUrl(url: string | URL): URL {
  const resolved = new URL(url, (globalThis as { location?: { href: string } }).location?.href);
  resolved.protocol = resolved.protocol.replace(/^ws/, 'http');
  resolved.hash = '';
  if (!resolved.protocol.startsWith('http')) throw new TypeError(`url: expected http(s) or ws(s), got ${url}`);
  return resolved;
}

/** `undefined` for a wire that does not exist here. */
function resolveTransport(name: TransportName | ClientTransport, options: ClientOptions): ClientTransport | undefined {
  const globals = globalThis as { WebSocket?: WebSocketConstructor; fetch?: typeof fetch };
  if (typeof name === 'object') return name;
  if (name === 'websocket') {
    const WebSocket = options.WebSocket ?? globals.WebSocket;
    return WebSocket && webSocketTransport(WebSocket);
  }
  const fetchLike = options.fetch ?? globals.fetch;
  return (
    fetchLike &&
    lazyTransport(name, async () => {
      const { httpTransport } = await import('./http.transports.js');
      return httpTransport(name, fetchLike, options.receiveOnly && options.share === undefined);
    })
  );
}
