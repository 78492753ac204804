import { WebSocket } from 'ws';
import { pause } from './command.js';

/** Where a WebSocket is tried, and until when at most. */
export interface AttemptOptions {
  readonly url: URL;
  readonly headers: Record<string, string>;
  readonly signal: AbortSignal;
  /** How long the upgrade may take, and again the first frame, ms. */
  readonly withinMs: number;
}

/** A WebSocket that is tried, and what became of it. The caller ends it. */
export class Attempt {
  /** How long the upgrade took, ms. */
  openMs: number | undefined;
  /** The status by which the upgrade was answered instead. */
  status: number | undefined;
  /** Why the socket failed. */
  error: Error | undefined;
  /** The code by which it was closed. */
  code: number | undefined;
  /** How the hub ended it, by `$disconnect` or a code of its own: the code and the reason. */
  disconnect: { readonly code: number; readonly reason: string } | undefined;
  /** Whether the hub let it in: its first frame was another. */
  greeted = false;
  readonly #socket: WebSocket;
  readonly #opened = new AbortController();
  readonly #begun = new AbortController();
  readonly #over = new AbortController();

  constructor(private readonly options: AttemptOptions) {
    const { url, headers, withinMs } = options;
    const target = new URL(url);
    target.protocol = target.protocol.replace(/^http/, 'ws');
    const from = performance.now();
    const socket = new WebSocket(target, { headers, handshakeTimeout: withinMs });
    this.#socket = socket;
    socket.once('open', () => {
      this.openMs = Math.round(performance.now() - from);
      this.#opened.abort();
    });
    socket.once('unexpected-response', (request, response) => {
      this.status = response.statusCode!;
      request.destroy();
      this.#over.abort();
    });
    socket.on('message', (data: Buffer) => {
      this.disconnect ??= disconnectOf(data);
      this.greeted ||= this.disconnect === undefined;
      this.#begun.abort();
    });
    socket.on('error', (error) => (this.error ??= error));
    socket.once('close', (code, reason) => {
      this.code = code;
      if (code >= 4_000) this.disconnect ??= { code, reason: reason.toString() };
      this.#over.abort();
    });
  }

  /** Whether there is no socket any more. */
  get over(): boolean {
    return this.#over.signal.aborted;
  }

  /** Resolves with the first frame or the end, by both of which a hub may refuse, or where neither comes in time. */
  async begin(): Promise<void> {
    const { signal, withinMs } = this.options;
    const over = AbortSignal.any([signal, this.#over.signal]);
    await pause(2 * withinMs, AbortSignal.any([over, this.#opened.signal])); // the handshake ends by itself
    await pause(withinMs, AbortSignal.any([over, this.#begun.signal]));
  }

  /** Resolves after so many ms, or with the end. */
  stay(ms: number): Promise<void> {
    return pause(ms, AbortSignal.any([this.options.signal, this.#over.signal]));
  }

  end(): void {
    this.#socket.terminate();
  }
}

/** What a `$disconnect` says. */
function disconnectOf(data: Buffer): Attempt['disconnect'] {
  try {
    const frame = JSON.parse(data.toString()) as { event?: unknown; data?: { code?: unknown; reason?: unknown } };
    if (frame.event !== '$disconnect') return undefined;
    return { code: Number(frame.data?.code), reason: String(frame.data?.reason) };
  } catch {
    return undefined; // no frame of a hub
  }
}
