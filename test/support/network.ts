import { once } from 'node:events';
import { createServer, request, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';

/** What becomes of upgrades: they pass, are refused by a proxy, or get no answer. */
export type UpgradeMode = 'open' | 'refused' | 'swallowed';
/** What becomes of event streams: they pass, or their bytes are held back until they end. */
export type StreamMode = 'open' | 'buffered';
/** What becomes of one request: nothing, it does not arrive, or its answer does not. */
export type Fate = 'passes' | 'lost' | 'answer lost';

/** A network of the kind that companies and hotels have, in front of a port of this machine. */
export class Network {
  upgrades: UpgradeMode = 'open';
  streams: StreamMode = 'open';
  /** Decides about requests that are no stream. */
  fate: (request: IncomingMessage) => Fate = () => 'passes';
  /** Which port a request goes to. */
  route: (request: IncomingMessage) => number;
  /** The paths of all requests, upgrades as `UPGRADE`. */
  readonly requests: string[] = [];
  private readonly sockets = new Set<Duplex>();

  private constructor(
    private readonly server: Server,
    target: number,
  ) {
    this.route = () => target;
    server.on('connection', (socket: Socket) => this.track(socket));
    server.on('request', (incoming, response) => this.pass(incoming, response));
    server.on('upgrade', (incoming, socket, head) => this.upgrade(incoming, socket, head));
  }

  static async start(target: number): Promise<Network> {
    const server = createServer();
    const network = new Network(server, target);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return network;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  /** Resets everything that is open. */
  cut(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  async dispose(): Promise<void> {
    const closed = once(this.server, 'close');
    this.server.close();
    this.cut();
    await closed;
  }

  private track(socket: Duplex): void {
    this.sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => this.sockets.delete(socket));
  }

  private upgrade(incoming: IncomingMessage, socket: Duplex, head: Buffer): void {
    this.requests.push(`UPGRADE ${incoming.url}`);
    if (this.upgrades === 'swallowed') return;
    if (this.upgrades === 'refused') {
      socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
      return;
    }
    const onward = connect({ port: this.route(incoming), host: '127.0.0.1', noDelay: true });
    this.track(onward);
    const headers = incoming.rawHeaders.flatMap((name, i, all) => (i % 2 === 0 ? [`${name}: ${all[i + 1]}`] : []));
    onward.write([`GET ${incoming.url} HTTP/1.1`, ...headers, '', ''].join('\r\n'));
    onward.write(head);
    onward.pipe(socket).pipe(onward);
    onward.on('close', () => socket.destroy());
    socket.on('close', () => onward.destroy());
  }

  private pass(incoming: IncomingMessage, response: ServerResponse): void {
    this.requests.push(`${incoming.method} ${incoming.url}`);
    const isStream = /\/sse(\?|$)/.test(incoming.url!);
    const fate = isStream ? 'passes' : this.fate(incoming);
    if (fate === 'lost') {
      incoming.socket.destroy();
      return;
    }
    const { method, url, headers } = incoming;
    const onward = request({ host: '127.0.0.1', port: this.route(incoming), method, path: url, headers });
    incoming.pipe(onward);
    onward.on('error', () => response.destroy());
    response.on('close', () => onward.destroy());
    onward.on('response', (answer) => {
      answer.on('error', () => response.destroy());
      if (fate === 'answer lost') {
        answer.on('end', () => incoming.socket.destroy()).resume();
        return;
      }
      if (isStream && this.streams === 'buffered') {
        const held: Buffer[] = [];
        answer.on('data', (piece: Buffer) => held.push(piece));
        answer.on('end', () => response.writeHead(answer.statusCode!, answer.headers).end(Buffer.concat(held)));
        return;
      }
      response.writeHead(answer.statusCode!, answer.headers);
      answer.pipe(response);
    });
  }
}
