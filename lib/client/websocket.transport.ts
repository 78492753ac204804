import { readFrame, type ClientLink, type ClientTransport, type LinkContext } from './transport.js';

/** What the client needs of a WebSocket: the browser's, Node's own (22 and later), or that of `ws`. */
export interface WebSocketLike {
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}

/** The constructor of a {@link WebSocketLike}. */
export type WebSocketConstructor = new (url: string) => WebSocketLike;

/** A close code of the application's own range: a link that was dropped, as opposed to 1000, the goodbye. */
const CLOSE_DROPPED = 4000;
/** How long the other side may take to answer a goodbye, where the socket can be ended without. */
const GOODBYE_MS = 1_000;

class WebSocketLink implements ClientLink {
  readonly #socket: WebSocketLike & { terminate?(): void };
  readonly #clock: LinkContext['clock'];
  #cancelTerminate: (() => void) | undefined;
  /** Frames that wait for the socket to open. */
  #held: string[] | undefined = [];

  constructor(socket: WebSocketLike, context: LinkContext) {
    this.#socket = socket;
    this.#clock = context.clock;
    socket.onopen = () => {
      const held = this.#held ?? [];
      this.#held = undefined;
      context.onAlive();
      for (const text of held) socket.send(text);
    };
    socket.onmessage = (event: { data: unknown }) => {
      const frame = readFrame(event.data);
      if (frame) context.onFrame(frame);
      else context.onAlive();
    };
    socket.onerror = () => {}; // the close that follows tells all there is; `ws` throws without a listener
    socket.onclose = (event: { code: number; reason: string }) => {
      this.#cancelTerminate?.();
      context.onEnd({ code: event.code, reason: event.reason });
    };
  }

  send(text: string): void {
    if (this.#held) this.#held.push(text);
    else this.#socket.send(text);
  }

  close(goodbye: boolean): void {
    const socket = this.#socket;
    // On a dead network the closing handshake of `ws` would hold the process for 30 s.
    if (!goodbye && socket.terminate) socket.terminate();
    else {
      if (socket.terminate) this.#cancelTerminate = this.#clock.after(GOODBYE_MS, () => socket.terminate?.());
      socket.close(goodbye ? 1000 : CLOSE_DROPPED);
    }
  }
}

/** Links over WebSocket. */
export function webSocketTransport(WebSocket: WebSocketConstructor): ClientTransport {
  return {
    name: 'websocket',
    open(context) {
      const url = new URL(context.url);
      url.protocol = url.protocol.replace('http', 'ws');
      return new WebSocketLink(new WebSocket(url.href), context);
    },
  };
}
