import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { reset } from '../../../lib/testing/reset.js';

interface Way {
  readonly node: Socket;
  readonly redis: Socket;
  /** Whether it is a connection for subscriptions. */
  subscribes: boolean;
}

/** The way of the nodes to Redis, whose connections for subscriptions can be cut, or held silently. */
export class RedisProxy {
  private readonly ways = new Set<Way>();
  private readonly server: Server = createServer({ noDelay: true });

  private constructor(private readonly target: number) {
    this.server.on('connection', (socket) => this.accept(socket));
  }

  static async start(target: number): Promise<RedisProxy> {
    const proxy = new RedisProxy(target);
    proxy.server.listen(0, '127.0.0.1');
    await once(proxy.server, 'listening');
    return proxy;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  /** Resets the connections for subscriptions; tells how many. */
  cutSubscriptions(): number {
    const ways = this.subscriptions();
    for (const { node, redis } of ways) {
      reset(node);
      reset(redis);
    }
    return ways.length;
  }

  /** What Redis announces from now on never arrives on the connections for subscriptions, though they stay open. */
  silenceSubscriptions(): number {
    const ways = this.subscriptions();
    for (const { node, redis } of ways) {
      redis.unpipe(node);
      redis.resume();
    }
    return ways.length;
  }

  async dispose(): Promise<void> {
    const closed = once(this.server, 'close');
    this.server.close();
    for (const { node, redis } of this.ways) {
      node.destroy();
      redis.destroy();
    }
    await closed;
  }

  private subscriptions(): Way[] {
    return [...this.ways].filter(({ subscribes }) => subscribes);
  }

  private accept(node: Socket): void {
    const redis = connect({ port: this.target, host: '127.0.0.1', noDelay: true });
    const way: Way = { node, redis, subscribes: false };
    this.ways.add(way);
    node.on('data', (chunk: Buffer) => {
      way.subscribes ||= chunk.includes('\r\nsubscribe\r\n');
    });
    for (const [from, to] of [
      [node, redis],
      [redis, node],
    ] as const) {
      from.pipe(to);
      from.on('error', () => undefined);
      from.on('close', () => {
        this.ways.delete(way);
        to.destroy();
      });
    }
  }
}
