import type { Socket } from 'node:net';
import { WebSocketServer, type ServerOptions, type WebSocket } from 'ws';
import type {
  AdmittedConnection,
  ResponseHeaders,
  Transport,
  TransportSettings,
  UpgradeExchange,
} from '../hub/ports/transport.js';
import { headerLines } from './refusal.js';
import { WebSocketCodec } from './websocket-codec.js';
import { closeIn, PeerSocket, WebSocketLink } from './websocket-link.js';

/** How WebSockets behave. */
export interface WebSocketOptions {
  /**
   * Whether frames are compressed with peers that offer it (permessage-deflate, RFC 7692). Each frame stands for itself, so
   * that a publication is compressed once for all, and nothing is kept per connection. A frame that inflates to more
   * than `maxFrameBytes` ends the connection with 1009 `frame_too_large`, and no more of it is inflated than that.
   * Do not mix secrets and what others write in one frame: its length tells how much they have in common.
   * @defaultValue false
   */
  compression?: boolean | CompressionOptions;
}

export interface CompressionOptions {
  /** Smaller frames are sent as they are, bytes. @defaultValue 1_024 */
  thresholdBytes?: number;
}

/** Frames of different connections that are inflated at once. */
const INFLATE_CONCURRENCY = 4;
/** A frame may come in so many fragments, and chunks of the socket, as if each had at least so many bytes. */
const MIN_PART_BYTES = 64;
const MIN_PARTS = 1_024;

/** WebSocket (RFC 6455) at the endpoint's own path: two-way, one JSON text frame per frame. */
class WebSocketTransport implements Transport {
  readonly name = 'websocket';
  readonly subpath = '';
  readonly methods = [];
  readonly #links = new Set<WebSocketLink>();
  /** Links whose response to the upgrade may not have gone out yet. */
  readonly #fresh: WebSocketLink[] = [];
  /** For peers with which compression was agreed. */
  readonly #compressing: WebSocketCodec | undefined;
  #server: WebSocketServer | undefined;
  /** What the upgrade that is being accepted selects. */
  #subprotocol: string | undefined;
  /** What the response that accepts it carries besides. */
  #headers: ResponseHeaders | undefined;

  constructor({ compression = false }: WebSocketOptions) {
    if (compression === false) return;
    const { thresholdBytes = 1_024 } = compression === true ? {} : compression;
    if (!Number.isInteger(thresholdBytes) || thresholdBytes < 0) {
      throw new TypeError('webSocket(): "compression.thresholdBytes" is an integer from 0');
    }
    this.#compressing = new WebSocketCodec(thresholdBytes);
  }

  open({ maxFrameBytes }: TransportSettings): void {
    this.#server = new WebSocketServer({
      noServer: true,
      WebSocket: PeerSocket,
      clientTracking: false,
      perMessageDeflate: this.#compressing !== undefined && DEFLATE,
      autoPong: false, // the link answers, within a bound
      ...boundsOf(maxFrameBytes),
      skipUTF8Validation: true, // the link looks, and answers instead of closing
      handleProtocols: () => this.#subprotocol ?? false,
    }).on('headers', (lines) => lines.push(...headerLines(this.#headers ?? {})));
  }

  upgrade(exchange: UpgradeExchange, connection: AdmittedConnection): void {
    const socket = exchange.socket as Socket;
    this.#headers = connection.responseHeaders;
    socket.cork();
    const accepted = this.#accept(exchange, (peer) => {
      const codec = peer.extensions === '' ? CODEC : this.#compressing!;
      const link = new WebSocketLink(peer, socket, codec, connection, this);
      this.#links.add(link);
      this.#uncorkSoon(link);
      connection.attach(link);
    });
    if (!accepted) connection.ended(1006, '');
  }

  refuseUpgrade(exchange: UpgradeExchange, code: number, reason: string, disconnectFrame: string): void {
    const socket = exchange.socket as Socket;
    this.#headers = undefined;
    this.#accept(exchange, (peer) => {
      socket.write(CODEC.frame(disconnectFrame));
      closeIn(peer, socket, code, reason);
    });
  }

  /** A link is over. */
  ended(link: WebSocketLink): void {
    this.#links.delete(link);
  }

  close(): void {
    for (const link of this.#links) link.terminate();
  }

  /**
   * The response waits for the greeting, which most connections get in this turn: one write and one packet for both, of
   * which a handshake costs as much as of anything else. Longer than until the next turn it does not wait.
   */
  #uncorkSoon(link: WebSocketLink): void {
    if (this.#fresh.push(link) > 1) return;
    setImmediate(() => {
      const links = this.#fresh.splice(0);
      setImmediate(() => {
        for (const fresh of links) fresh.uncork();
      });
    });
  }

  /** Completes an upgrade; false where the peer has gone, or `ws` found something wrong and said so. */
  #accept({ request, socket, head, subprotocol }: UpgradeExchange, use: (peer: PeerSocket) => void): boolean {
    let accepted = false;
    this.#subprotocol = subprotocol;
    this.#server!.handleUpgrade(request, socket, head, (peer: WebSocket) => {
      accepted = true;
      use(peer as PeerSocket);
    });
    return accepted;
  }
}

const CODEC = new WebSocketCodec();

/** What is agreed with a peer that offers compression: no side keeps a context; windows of other sizes are declined. */
const DEFLATE: ServerOptions['perMessageDeflate'] = {
  serverNoContextTakeover: true,
  clientNoContextTakeover: true,
  serverMaxWindowBits: 15,
  concurrencyLimit: INFLATE_CONCURRENCY,
};

/** What `ws` holds of a frame that has not ended: each part costs more than its bytes. */
function boundsOf(maxFrameBytes: number): { maxPayload: number; maxFragments: number; maxBufferedChunks: number } {
  if (!Number.isFinite(maxFrameBytes)) return { maxPayload: 0, maxFragments: 0, maxBufferedChunks: 0 };
  const parts = Math.max(MIN_PARTS, Math.ceil(maxFrameBytes / MIN_PART_BYTES));
  return { maxPayload: maxFrameBytes, maxFragments: parts, maxBufferedChunks: parts };
}

/** Reaches peers over WebSocket, at the endpoint's own path. */
export function webSocket(options: WebSocketOptions = {}): Transport {
  return new WebSocketTransport(options);
}
