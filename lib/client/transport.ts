import type { ErrorBody } from '../protocol/errors.js';
import type { Position } from '../protocol/position.js';
import type { ClientClock } from './clock.js';

/** A frame from the hub, as it was read; the reader checks what it takes from it. */
export type IncomingFrame = Readonly<Record<string, unknown>>;

/** Why a link ended. */
export interface LinkEnd {
  /** A WebSocket close code, or the one that stands for a refusal over HTTP; 1006 where none is known. */
  code: number;
  /** The name of an error of the table, or a text for people. */
  reason: string;
  /** The refusal's body, where there was one. */
  error?: ErrorBody | undefined;
  /** The hub asked not to come back earlier. Milliseconds. */
  retryAfterMs?: number | undefined;
  /** What the hub said about coming back, where it did; else the code tells. */
  reconnect?: boolean;
}

/** What a link is given, and where it tells what happens. What it tells after `onEnd` or `close()` is ignored. */
export interface LinkContext {
  /** The endpoint, `http:` or `https:`. */
  readonly url: URL;
  /** The client instance id. */
  readonly client: string;
  readonly token: string | null;
  readonly clock: ClientClock;
  /** Where a channel stands, for links that must tell it again by themselves. */
  position(channel: string): Position | undefined;
  onFrame(frame: IncomingFrame): void;
  /** Bytes came that are no frame (a comment), or the wire is open. */
  onAlive(): void;
  /**
   * Runs `fn` as soon as the client's budget of attempts has room, and never within this call: for what a link asks the
   * hub by itself, and again where that has failed or brought nothing. After failures it waits as long as the client
   * would, and `afterMs` at least. Returns what cancels it.
   */
  attempt(fn: () => void, failures?: number, afterMs?: number): () => void;
  /** The link is over, or could not be opened. Called once. */
  onEnd(end: LinkEnd): void;
}

/**
 * One open pipe to the hub, in the shape of a WebSocket whatever the wire: the client sends `$resume` first and at
 * once, the link holds it until it is open, and answers come as frames. A link that cannot carry a request answers it
 * by itself, with `not_available`.
 */
export interface ClientLink {
  /** Sends a frame, given as JSON text. Never throws; answers never come before it returned. */
  send(text: string): void;
  /** Ends the link. `goodbye: false`: like a cut cable, so that the hub keeps what it knows for the way back. */
  close(goodbye: boolean): void;
}

/** Makes links over one kind of wire. What `open()` throws counts as an attempt that failed. */
export interface ClientTransport {
  readonly name: string;
  open(context: LinkContext): ClientLink;
}

/** Reads a frame; `undefined` for what is none. */
export function readFrame(text: unknown): IncomingFrame | undefined {
  try {
    const frame: unknown = JSON.parse(text as string);
    return typeof frame === 'object' && frame !== null ? (frame as IncomingFrame) : undefined;
  } catch {
    return undefined;
  }
}

/** The length of a text in UTF-8. */
export function byteLength(text: string): number {
  return new TextEncoder().encode(text).length;
}
