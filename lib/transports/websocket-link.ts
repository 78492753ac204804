import { isUtf8 } from 'node:buffer';
import type { Socket } from 'node:net';
import { WebSocket } from 'ws';
import type { Link } from '../hub/ports/link.js';
import type { AdmittedConnection } from '../hub/ports/transport.js';
import { PING, pong, type WebSocketCodec } from './websocket-codec.js';

/** How long a peer may take to answer a close frame, ms. */
const CLOSE_TIMEOUT_MS = 1_000;
/** Above this many bytes that the kernel has not taken, pings of the peer are not answered. */
const PONG_LIMIT_BYTES = 64 * 1024;
/** What waited for so long was refused by the kernel, ms; over TLS all writes wait for the next turn. */
const BLOCKED_MS = 20;
/**
 * A slow peer finds a question late, behind all that is on the way to it. That it makes room counts for the interval in
 * which it does and for the next, as a kernel takes more only when a third of its buffer is free: that may be a megabyte.
 */
const ROOM_QUESTIONS = 2;
const EMPTY = Buffer.alloc(0);

/** What ends with a link. */
export interface LinkOwner {
  ended(link: WebSocketLink): void;
}

/**
 * The WebSocket of a link. `ws` reads; what goes out is written to the socket below it as ready frames, each as a
 * whole, so that the one frame which `ws` writes itself, the close frame, falls between two of them.
 */
export class PeerSocket extends WebSocket {
  link: WebSocketLink | undefined;

  /** Takes the events where they arise: idle connections are many, and four listeners on each cost a table. */
  override emit(event: string | symbol, first?: unknown, second?: unknown): boolean {
    const { link } = this;
    if (link === undefined) return false;
    if (event === 'message') link.message(first as Buffer);
    else if (event === 'ping') link.pinged(first as Buffer);
    else if (event === 'close') link.ended(first as number, (second as Buffer).toString());
    return true; // what `error` tells is told by `close`
  }

  /**
   * Called by `ws` where the peer broke the protocol, with a code alone, and to echo the peer's close frame. The hub
   * says `$disconnect` first where a frame was too large.
   */
  override close(code?: number, reason?: string | Buffer): void {
    if (reason === undefined && code !== undefined) this.link?.broken(code);
    super.close(code, reason);
  }

  /** Closes from this side. */
  finish(code: number, reason: string): void {
    super.close(code, reason);
  }
}

/**
 * A link over WebSocket, whose socket is corked. Idle connections are many: it has no timer, no listener and no closure.
 */
export class WebSocketLink implements Link {
  readonly greets = false;
  readonly #peer: PeerSocket;
  readonly #socket: Socket;
  readonly #connection: AdmittedConnection;
  readonly #owner: LinkOwner;
  /** What the peer had sent when it was last asked for a sign of life. */
  #read = -1;
  /** For how many questions it counts that the peer made room for what had to wait. */
  #madeRoom = 0;
  #state: 'open' | 'closing' | 'ended' = 'open';
  #draining = false;
  /** The response to the upgrade waits, to go out with the first frames. */
  #corked = true;
  /** The code that the peer broke the protocol with: `ws` does not listen for the peer's answer then. */
  #brokenBy: number | undefined;

  constructor(
    peer: PeerSocket,
    socket: Socket,
    readonly codec: WebSocketCodec,
    connection: AdmittedConnection,
    owner: LinkOwner,
  ) {
    this.#peer = peer;
    this.#socket = socket;
    this.#connection = connection;
    this.#owner = owner;
    peer.link = this;
  }

  get bufferedBytes(): number {
    return this.#socket.writableLength;
  }

  get heard(): boolean {
    return this.#madeRoom > 0 || this.#socket.bytesRead !== this.#read;
  }

  write(chunks: readonly Buffer[]): void {
    const socket = this.#socket;
    if (this.#state !== 'open' || !socket.writable) return;
    if (chunks.length === 1) {
      socket.write(chunks[0]!);
    } else {
      socket.cork();
      for (const chunk of chunks) socket.write(chunk);
      socket.uncork();
    }
    this.uncork();
    if (socket.writableLength > 0) this.#awaitDrain();
  }

  /** Sends the response to the upgrade, if no frame has taken it along. */
  uncork(): void {
    if (!this.#corked) return;
    this.#corked = false;
    this.#socket.uncork();
  }

  ping(): void {
    this.write([PING]);
    this.expect();
  }

  expect(): void {
    this.#read = this.#socket.bytesRead;
    if (this.#madeRoom > 0) this.#madeRoom--;
  }

  close(code: number, reason: string): void {
    if (this.#state !== 'open') return;
    this.#state = 'closing';
    closeIn(this.#peer, this.#socket, code, reason);
  }

  terminate(): void {
    this.#socket.destroy();
  }

  /** A message came. */
  message(data: Buffer): void {
    if (this.#state !== 'open') return;
    const text = data.toString();
    // Only what could not be decoded, or a peer that sends this very character, costs a second look.
    if (text.includes('\ufffd') && !isUtf8(data)) this.#connection.receiveBad(data.length);
    else this.#connection.receive(text, data.length);
  }

  /** The peer asks for a sign of life. */
  pinged(payload: Buffer): void {
    if (this.#socket.writableLength < PONG_LIMIT_BYTES) this.write([pong(payload)]);
  }

  /** The peer broke the protocol: `ws` is about to close. */
  broken(code: number): void {
    this.#brokenBy = code;
    if (code === 1009) this.#connection.receiveTooLarge(); // closes this link
    if (this.#state !== 'open') return;
    this.#state = 'closing';
    destroyLater(this.#socket);
  }

  /** The socket is gone. */
  ended(code: number, reason: string): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.#peer.link = undefined;
    this.#owner.ended(this);
    this.#connection.ended(code === 1006 ? (this.#brokenBy ?? code) : code, reason);
  }

  /** The `drain` event does not come below the high-water mark; an empty write is done when all before it is. */
  #awaitDrain(): void {
    if (this.#draining) return;
    this.#draining = true;
    const since = performance.now();
    this.#socket.write(EMPTY, (error) => {
      this.#draining = false;
      if (error || this.#state !== 'open') return;
      if (performance.now() - since >= BLOCKED_MS) this.#madeRoom = ROOM_QUESTIONS;
      if (this.#socket.writableLength > 0) this.#awaitDrain();
      this.#connection.drained();
    });
  }
}

/** Sends a close frame; destroys the socket where the peer does not follow. */
export function closeIn(peer: PeerSocket, socket: Socket, code: number, reason: string): void {
  peer.finish(isSendable(code) ? code : 1000, reason);
  destroyLater(socket);
}

function destroyLater(socket: Socket): void {
  const timer = setTimeout(() => socket.destroy(), CLOSE_TIMEOUT_MS).unref();
  socket.once('close', () => clearTimeout(timer));
}

/** Whether a code may stand in a close frame (RFC 6455, section 7.4). */
function isSendable(code: number): boolean {
  if (!Number.isInteger(code)) return false;
  return (code >= 1000 && code <= 1014 && (code < 1004 || code > 1006)) || (code >= 3000 && code <= 4999);
}
