import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { Server as TlsServer } from 'node:tls';

type ShouldUpgrade = (this: Server, request: IncomingMessage) => boolean;

/** A server of a Node that asks whether an upgrade is taken. */
interface AskingServer extends Server {
  shouldUpgradeCallback?: ShouldUpgrade;
}

/**
 * Keeps plain requests that offer another protocol (`curl --http2` offers h2c) plain, where nobody else listens to
 * upgrades: a server may ignore the offer (RFC 9110, section 7.8), but once there is a listener Node gives it them all.
 */
export function ignoreOtherUpgrades(server: AskingServer): {
  /** Serves an upgrade as a plain request. False: it is a WebSocket's, or there are other listeners. */
  serve(request: IncomingMessage, socket: Duplex, head: Buffer): boolean;
  stop(): void;
} {
  const before = server.shouldUpgradeCallback;
  const ignores = (request: IncomingMessage): boolean =>
    request.headers.upgrade?.toLowerCase() !== 'websocket' && server.listenerCount('upgrade') === 1;
  const asked: ShouldUpgrade = (request) => !ignores(request) && before?.call(server, request) === true;
  if (before !== undefined) server.shouldUpgradeCallback = asked;
  return {
    serve(request, socket, head) {
      if (!ignores(request)) return false;
      serveAnew(server, request, socket, head);
      return true;
    },
    stop() {
      if (before !== undefined && server.shouldUpgradeCallback === asked) server.shouldUpgradeCallback = before;
    },
  };
}

/** Where Node does not ask, it has let go of the socket: it gets it back, with the same request but for the offer. */
function serveAnew(server: Server, request: IncomingMessage, socket: Duplex, head: Buffer): void {
  const { method = '', url = '', httpVersion, rawHeaders } = request;
  const lines = [`${method} ${url} HTTP/${httpVersion}`];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const [name = '', value = ''] = rawHeaders.slice(i, i + 2);
    const kept = name.toLowerCase() === 'connection' ? withoutUpgrade(value) : value;
    if (name.toLowerCase() !== 'upgrade' && kept !== '') lines.push(`${name}: ${kept}`);
  }
  socket.unshift(Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), head]));
  server.emit(server instanceof TlsServer ? 'secureConnection' : 'connection', socket);
}

function withoutUpgrade(connection: string): string {
  const options = connection.split(',').map((option) => option.trim());
  return options.filter((option) => option !== '' && option.toLowerCase() !== 'upgrade').join(', ');
}
