import type { INestApplication } from '@nestjs/common';
import { once } from 'node:events';
import { Agent, createServer, request, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { portOf } from './port-of.js';
import { TcpLink } from './tcp-link.js';

/** What becomes of upgrades: they pass, are refused by a proxy, or get no answer. */
export type UpgradeMode = 'open' | 'refused' | 'swallowed';
/** What becomes of event streams: they pass, or their bytes are held back until they end. */
export type StreamMode = 'open' | 'buffered';
/** What becomes of one request: it passes, does not arrive, or its answer does not. */
export type RequestFate = 'passes' | 'lost' | 'answer lost';

/** Where a link leads: a running application, or a port of this machine. */
export type LinkTarget = INestApplication | number;

/**
 * The network between clients and an application, or several nodes of one, which fails as it is told: a link that is
 * cut, slow or half-open, a proxy that refuses upgrades or holds streams back, requests and answers that get lost.
 * Several targets take turns, request by request, without stickiness; those that have been closed are left out.
 */
export class FaultyLink {
  upgrades: UpgradeMode = 'open';
  streams: StreamMode = 'open';
  /** Decides about requests that are neither upgrades nor event streams. */
  fate: (request: IncomingMessage) => RequestFate = () => 'passes';
  /** Which port a request goes to. */
  route: (request: IncomingMessage) => number;
  /** The requests so far, as `GET /path`; upgrades as `UPGRADE /path`. */
  readonly requests: string[] = [];
  readonly #agent = new Agent({ keepAlive: true });
  readonly #sockets = new Set<Duplex>();
  readonly #server: Server;
  readonly #tcp: TcpLink;

  private constructor(server: Server, tcp: TcpLink, target: LinkTarget | readonly LinkTarget[]) {
    this.#server = server;
    this.#tcp = tcp;
    let turn = 0;
    this.route = () => {
      const targets = Array.isArray(target) ? (target as readonly LinkTarget[]) : [target as LinkTarget];
      const ports = targets.map(portOf).filter((port) => port !== undefined);
      return ports[turn++ % ports.length] ?? 0;
    };
    server.on('connection', (socket: Socket) => this.#track(socket));
    server.on('request', (incoming, response) => this.#pass(incoming, response));
    server.on('upgrade', (incoming, socket, head) => this.#upgrade(incoming, socket, head));
  }

  /** Listens on a free port of the loopback interface. The caller closes it. An array of targets may change later. */
  static async open(target: LinkTarget | readonly LinkTarget[]): Promise<FaultyLink> {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const tcp = await TcpLink.open((server.address() as AddressInfo).port);
    return new FaultyLink(server, tcp, target);
  }

  /** Where clients connect. */
  get port(): number {
    return this.#tcp.port;
  }

  /** The address of the port, such as `http://127.0.0.1:40123`. */
  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** How much later bytes arrive, either way, ms. @defaultValue 0 */
  get delayMs(): number {
    return this.#tcp.delayMs;
  }

  set delayMs(delayMs: number) {
    this.#tcp.delayMs = delayMs;
  }

  /** Resets everything that is open. What comes passes. */
  drop(): void {
    this.#tcp.drop();
  }

  /** Resets everything that is open, and what comes until {@link FaultyLink.heal}. */
  cut(): void {
    this.#tcp.cut();
  }

  /**
   * From now on nothing arrives, either way, and neither side is told, as with a machine that has lost its power; what
   * comes gets no answer. {@link FaultyLink.heal} resets it.
   */
  halfOpen(): void {
    this.#tcp.halfOpen();
  }

  /** What comes passes; `upgrades`, `streams`, `fate` and `delayMs` stay as they are. */
  heal(): void {
    this.#tcp.heal();
  }

  /** Resets everything, and listens no more. */
  async close(): Promise<void> {
    await this.#tcp.close();
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    this.#agent.destroy();
    await closed;
  }

  #track(socket: Duplex): void {
    this.#sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => this.#sockets.delete(socket));
  }

  #upgrade(incoming: IncomingMessage, socket: Duplex, head: Buffer): void {
    this.requests.push(`UPGRADE ${incoming.url}`);
    if (this.upgrades === 'swallowed') return;
    if (this.upgrades === 'refused') {
      socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
      return;
    }
    const onward = connect({ port: this.route(incoming), host: '127.0.0.1', noDelay: true });
    this.#track(onward);
    const headers = incoming.rawHeaders.flatMap((name, i, all) => (i % 2 === 0 ? [`${name}: ${all[i + 1]}`] : []));
    onward.write([`GET ${incoming.url} HTTP/1.1`, ...headers, '', ''].join('\r\n'));
    onward.write(head);
    onward.pipe(socket).pipe(onward);
    onward.on('close', () => socket.destroy());
    socket.on('close', () => onward.destroy());
  }

  #pass(incoming: IncomingMessage, response: ServerResponse): void {
    this.requests.push(`${incoming.method} ${incoming.url}`);
    const isStream = /\/sse(\?|$)/.test(incoming.url!);
    const fate = isStream ? 'passes' : this.fate(incoming);
    if (fate === 'lost') {
      incoming.socket.destroy();
      return;
    }
    const { method, url, headers } = incoming;
    const agent = this.#agent;
    const onward = request({ host: '127.0.0.1', port: this.route(incoming), method, path: url, headers, agent });
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
