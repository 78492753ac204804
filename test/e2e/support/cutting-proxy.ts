import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/** When a connection is cut: milliseconds after the hub's first bytes went through. */
export interface CutDelay {
  readonly minMs: number;
  readonly maxMs: number;
}

/** Stands between peers and a hub, and destroys every connection some time after it is live. */
export class CuttingProxy {
  readonly #pairs = new Set<() => void>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #cutting = true;
  #cuts = 0;

  private constructor(
    private readonly server: Server,
    private readonly target: number,
    private readonly delay: CutDelay,
    private readonly random: () => number,
  ) {
    server.on('connection', (socket) => this.#serve(socket));
  }

  /** Listens on a free port of the loopback interface. The caller closes it. */
  static async start(target: number, delay: CutDelay, random: () => number): Promise<CuttingProxy> {
    const proxy = new CuttingProxy(createServer(), target, delay, random);
    proxy.server.listen(0, '127.0.0.1');
    await once(proxy.server, 'listening');
    return proxy;
  }

  /** Where peers connect. */
  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  /** How many live connections were destroyed. */
  get cuts(): number {
    return this.#cuts;
  }

  /** From now on connections live as long as they want. */
  stopCutting(): void {
    this.#cutting = false;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
  }

  async close(): Promise<void> {
    this.stopCutting();
    const closed = once(this.server, 'close');
    this.server.close();
    for (const destroy of this.#pairs) destroy();
    await closed;
  }

  #serve(peer: Socket): void {
    const hub = connect(this.target, '127.0.0.1');
    const destroy = (): void => {
      this.#pairs.delete(destroy);
      peer.destroy();
      hub.destroy();
    };
    this.#pairs.add(destroy);
    for (const socket of [peer, hub]) socket.on('error', destroy).on('close', destroy);
    hub.once('data', () => this.#cutLater(destroy));
    peer.pipe(hub);
    hub.pipe(peer);
  }

  #cutLater(destroy: () => void): void {
    if (!this.#cutting) return;
    const { minMs, maxMs } = this.delay;
    const timer = setTimeout(
      () => {
        this.#timers.delete(timer);
        if (!this.#pairs.has(destroy)) return;
        this.#cuts++;
        destroy();
      },
      minMs + this.random() * (maxMs - minMs),
    );
    this.#timers.add(timer);
  }
}
