import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Link } from '../hub/ports/link.js';
import type { LinkPeer, RequestExchange } from '../hub/ports/transport.js';
import { destroyResponse, whenOver } from './departure.js';
import type { SseCodec } from './sse-codec.js';

/** How long a peer may take to read the rest of a stream that was ended, ms. */
const END_TIMEOUT_MS = 1_000;

const HEADERS = {
  'Content-Type': 'text/event-stream',
  'Cache-Control': 'no-store, no-transform', // proxies that compress would hold events back
  'X-Accel-Buffering': 'no', // nginx
  'X-Content-Type-Options': 'nosniff',
};

/** Whom a link tells of itself. */
export interface SseLinkOwner {
  /** The hub ended the link before its stream began. */
  refused(link: SseLink): void;
  ended(link: SseLink): void;
}

/** What a link is made of. */
export interface SseLinkParts {
  readonly exchange: RequestExchange;
  readonly peer: LinkPeer;
  readonly codec: SseCodec;
  /** The socket, where ready chunks go to it as they are; else the response frames them. */
  readonly socket: Socket | undefined;
  /** When the stream is ended so that the peer comes back, ms since 1970. */
  readonly rotateAt: number;
  /** Ends it so. */
  rotate(): void;
}

/**
 * A link over a response that does not end. It is made before the stream begins, as connection hooks may send already:
 * what is written until then is held.
 */
export class SseLink implements Link {
  readonly greets = true;
  /** How the hub ended the link. */
  closedBy: { readonly code: number; readonly reason: string } | undefined;
  readonly #owner: SseLinkOwner;
  readonly #response: ServerResponse;
  #state: 'held' | 'open' | 'ending' | 'ended' = 'held';
  #held: Buffer[] = [];
  #heldBytes = 0;
  #pings = 0;
  #heard = true;
  /** For how many questions it counts that the peer made room for what had to wait. */
  #madeRoom = 0;
  #draining = false;
  #endTimer: NodeJS.Timeout | undefined;

  constructor(
    readonly parts: SseLinkParts,
    owner: SseLinkOwner,
  ) {
    this.#owner = owner;
    this.#response = parts.exchange.response;
    whenOver(parts.exchange, () => this.#over());
  }

  get codec(): SseCodec {
    return this.parts.codec;
  }

  get bufferedBytes(): number {
    return this.#heldBytes + this.#target.writableLength;
  }

  get heard(): boolean {
    return this.#heard || this.#madeRoom > 0;
  }

  /** Begins the stream: the head, the first event, and what was held, in one write. */
  start(first: Buffer): void {
    if (this.#state !== 'held') return;
    const held = this.#held;
    this.#state = 'open';
    this.#held = [];
    this.#heldBytes = 0;
    const { exchange, socket, peer } = this.parts;
    const { request, response } = exchange;
    const http1 = request.httpVersion === '1.1';
    if (http1) request.socket.setNoDelay(true);
    request.setTimeout(0);
    socket?.cork();
    response.writeHead(200, {
      ...HEADERS,
      ...(http1 && response.shouldKeepAlive ? { Connection: 'keep-alive' } : {}),
      ...(socket === undefined ? {} : { 'Transfer-Encoding': 'chunked' }),
    });
    response.flushHeaders();
    this.write([first, ...held]);
    socket?.uncork();
    if (held.length > 0) peer.drained();
  }

  write(chunks: readonly Buffer[]): void {
    if (this.#state === 'held') {
      this.#held.push(...chunks);
      for (const chunk of chunks) this.#heldBytes += chunk.length;
    } else if (this.#state === 'open') {
      this.#send(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks));
      if (this.bufferedBytes > 0) this.#awaitDrain();
    }
  }

  ping(): void {
    if (this.#state === 'open') this.#ask(this.codec.comment());
  }

  expect(): void {
    if (this.#state === 'open') this.#ask(EMPTY);
  }

  close(code: number, reason: string, delayMs?: number): void {
    this.closedBy ??= { code, reason };
    if (this.#state !== 'held' && this.#state !== 'open') return;
    const begun = this.#state === 'open';
    if (begun && delayMs !== undefined) this.#send(this.codec.returning(delayMs));
    this.#state = 'ending';
    this.#endTimer = setTimeout(() => this.terminate(), END_TIMEOUT_MS).unref();
    if (begun) this.#response.end();
    else this.#owner.refused(this);
  }

  terminate(): void {
    if (this.#state !== 'ended') destroyResponse(this.parts.exchange);
  }

  get #target(): Socket | ServerResponse {
    return this.parts.socket ?? this.#response;
  }

  /** The peer is heard once the kernel has taken everything up to these bytes. */
  #ask(chunk: Buffer): void {
    const ping = ++this.#pings;
    this.#heard = false;
    if (this.#madeRoom > 0) this.#madeRoom--;
    this.#send(chunk, (error) => {
      if (!error && ping === this.#pings) this.#heard = true;
    });
  }

  #send(chunk: Buffer, taken?: (error?: Error | null) => void): void {
    const target = this.#target;
    if (target.writable) target.write(chunk, taken);
  }

  /** A write behind all others: it is taken once they are. */
  #awaitDrain(): void {
    if (this.#draining) return;
    this.#draining = true;
    const target = this.#target;
    if (!target.writable) return;
    target.write(EMPTY, (error) => {
      this.#draining = false;
      if (error || this.#state !== 'open') return;
      this.#madeRoom = ROOM_QUESTIONS;
      if (this.bufferedBytes > 0) this.#awaitDrain();
      this.parts.peer.drained();
    });
  }

  #over(): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    clearTimeout(this.#endTimer);
    this.#held = [];
    this.#heldBytes = 0;
    this.#owner.ended(this);
    this.parts.peer.ended(1006, '');
  }
}

/** As over WebSocket: what the kernel takes counts for the interval in which it does, and for the next. */
const ROOM_QUESTIONS = 2;
const EMPTY = Buffer.alloc(0);
