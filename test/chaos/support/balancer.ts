import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { reset } from '../../../lib/testing/reset.js';

/** Gives each connection to the next node, without any memory of who came from where. */
export class Balancer {
  /** The ports of the nodes. */
  targets: readonly number[] = [];
  private readonly pairs = new Set<() => void>();
  private readonly server: Server = createServer({ noDelay: true });
  private turn = 0;
  /** How many connections were passed on. */
  passed = 0;

  private constructor() {
    this.server.on('connection', (socket) => this.accept(socket, this.targets.length));
  }

  static async start(): Promise<Balancer> {
    const balancer = new Balancer();
    balancer.server.listen(0, '127.0.0.1');
    await once(balancer.server, 'listening');
    return balancer;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/realtime`;
  }

  /** Cuts the connections that are the oldest: their peers come back, to other nodes. */
  hop(count: number): number {
    const oldest = [...this.pairs].slice(0, count);
    for (const destroy of oldest) destroy();
    return oldest.length;
  }

  async dispose(): Promise<void> {
    const closed = once(this.server, 'close');
    this.server.close();
    for (const destroy of this.pairs) destroy();
    await closed;
  }

  private accept(peer: Socket, attempts: number): void {
    peer.on('error', () => undefined);
    const target = this.targets[this.turn++ % this.targets.length];
    if (target === undefined || attempts === 0) {
      reset(peer);
      return;
    }
    const node = connect({ port: target, host: '127.0.0.1', noDelay: true });
    const refused = (): void => this.accept(peer, attempts - 1);
    node.once('error', refused);
    node.once('connect', () => {
      node.off('error', refused);
      this.join(peer, node);
    });
  }

  private join(peer: Socket, node: Socket): void {
    this.passed += 1;
    const destroy = (): void => {
      this.pairs.delete(destroy);
      peer.destroy();
      node.destroy();
    };
    this.pairs.add(destroy);
    for (const socket of [peer, node]) socket.on('error', destroy).on('close', destroy);
    if (peer.destroyed) destroy();
    peer.pipe(node);
    node.pipe(peer);
  }
}
