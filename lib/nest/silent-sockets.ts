import type { IncomingMessage, Server } from 'node:http';
import type { Socket } from 'node:net';

/**
 * The sockets of a server on which nothing has come yet: browsers open some ahead of their requests. A server that closes
 * waits a minute for the first request of each, and so would `app.close()`. HTTP/2 has none.
 */
export class SilentSockets {
  readonly #sockets = new Set<Socket>();
  readonly #opened: (socket: Socket) => void;
  readonly #closed: (this: Socket) => void;

  constructor(private readonly server: Server) {
    const sockets = this.#sockets;
    const closed = function (this: Socket): void {
      sockets.delete(this);
    };
    this.#closed = closed;
    this.#opened = (socket) => {
      sockets.add(socket);
      socket.once('close', closed);
    };
    if (typeof (server as Partial<Server>).closeIdleConnections === 'function') server.on(this.#event, this.#opened);
  }

  /** A request came on its socket. */
  asked({ socket }: IncomingMessage): void {
    if (this.#sockets.delete(socket)) socket.off('close', this.#closed);
  }

  /** Destroys them, and ends the watch. */
  close(): void {
    this.server.off(this.#event, this.#opened);
    for (const socket of this.#sockets) {
      socket.off('close', this.#closed);
      if (socket.bytesRead === 0) socket.destroy();
    }
    this.#sockets.clear();
  }

  /** Of TLS the socket that requests name. */
  get #event(): 'secureConnection' | 'connection' {
    return 'setSecureContext' in this.server ? 'secureConnection' : 'connection';
  }
}
