import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { reset } from './reset.js';

/** What becomes of connections: they pass, are reset, or are open while nothing arrives. */
type Mode = 'whole' | 'cut' | 'half-open';

/** A way to a TCP port of this machine that fails as it is told: in front of an application, or of what it needs, such as Redis. */
export class TcpLink {
  /** How much later bytes arrive, either way, ms. Those under way keep their delay, and nothing overtakes. @defaultValue 0 */
  delayMs = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #mode: Mode = 'whole';

  private constructor(
    server: Server,
    private readonly target: number,
  ) {
    this.#server = server;
    server.on('connection', (socket) => this.#accept(socket));
  }

  /** Listens on a free port of the loopback interface. The caller closes it. */
  static async open(target: number): Promise<TcpLink> {
    const server = createServer({ noDelay: true });
    const link = new TcpLink(server, target);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return link;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Resets all connections. Those that come pass. */
  drop(): void {
    for (const socket of this.#sockets) reset(socket);
  }

  /** Resets all connections, and those that come until {@link TcpLink.heal}. */
  cut(): void {
    this.#mode = 'cut';
    this.drop();
  }

  /**
   * From now on nothing arrives, either way, and neither side is told: connections stay open, those that come too, as
   * with a machine that has lost its power. {@link TcpLink.heal} resets them.
   */
  halfOpen(): void {
    this.#mode = 'half-open';
  }

  /** Connections that come pass. Those that were half-open have lost bytes, and are reset. */
  heal(): void {
    if (this.#mode === 'half-open') this.drop();
    this.#mode = 'whole';
  }

  /** Resets all connections, and listens no more. */
  async close(): Promise<void> {
    this.cut();
    for (const timer of this.#timers) clearTimeout(timer);
    const closed = once(this.#server, 'close');
    this.#server.close();
    await closed;
  }

  #accept(socket: Socket): void {
    if (this.#mode === 'cut') {
      reset(socket);
      return;
    }
    const onward = connect({ port: this.target, host: '127.0.0.1', noDelay: true });
    this.#carry(socket, onward);
    this.#carry(onward, socket);
  }

  /** Carries what one side sends to the other, its end and its loss included. */
  #carry(from: Socket, to: Socket): void {
    const arrive = this.#way();
    this.#sockets.add(from);
    from.on('error', () => undefined);
    from.on('data', (bytes: Buffer) =>
      arrive(() => {
        if (to.destroyed || to.write(bytes)) return;
        if (from.isPaused()) return; // it goes on once all is drained
        from.pause();
        to.once('drain', () => from.resume());
      }),
    );
    from.on('end', () => arrive(() => to.end()));
    from.on('close', () => {
      this.#sockets.delete(from);
      arrive(() => to.destroy());
    });
  }

  /** Lets things arrive in their order, late where the link is slow, and not at all while it is half-open. */
  #way(): (act: () => void) => void {
    const underWay: (() => void)[] = [];
    let lastAt = 0;
    return (act) => {
      const arrive = (): void => {
        if (this.#mode !== 'half-open') act();
      };
      if (this.delayMs === 0 && underWay.length === 0) {
        arrive();
        return;
      }
      const now = performance.now();
      lastAt = Math.max(lastAt, now + this.delayMs);
      underWay.push(arrive);
      const timer = setTimeout(() => {
        this.#timers.delete(timer);
        underWay.shift()!();
      }, lastAt - now);
      this.#timers.add(timer);
    };
  }
}
