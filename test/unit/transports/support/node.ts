import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { memoryBroker } from '../../../../lib/brokers/memory.broker.js';
import type { Application } from '../../../../lib/hub/application.js';
import type { Connection } from '../../../../lib/hub/connection.js';
import type { ChannelOptions } from '../../../../lib/hub/definition.js';
import type { Broker } from '../../../../lib/hub/ports/broker.js';
import { Hub } from '../../../../lib/hub/hub.js';
import { UserIdentity } from '../../../../lib/hub/identity.js';
import type { Authenticator } from '../../../../lib/hub/ports/authenticator.js';
import type { Clock } from '../../../../lib/hub/ports/clock.js';
import type { Transport } from '../../../../lib/hub/ports/transport.js';
import { resolveSettings, type LimitOptions } from '../../../../lib/hub/settings.js';
import { RealtimeException } from '../../../../lib/protocol/errors.js';
import { PeerHandshake, type HandshakeOptions } from '../../../../lib/security/handshake.js';
import { RequestRouter } from '../../../../lib/transports/router.js';
import { longPolling } from '../../../../lib/transports/long-polling.transport.js';
import { SendTransport } from '../../../../lib/transports/send.transport.js';
import { sse } from '../../../../lib/transports/sse.transport.js';
import { webSocket } from '../../../../lib/transports/websocket.transport.js';
import { secret } from '../../../support/secrets.js';

/** What a test decides about its node. */
export interface NodeOptions extends HandshakeOptions {
  application?: Partial<Application>;
  auth?: Authenticator;
  channels?: Record<string, ChannelOptions>;
  limits?: LimitOptions;
  heartbeat?: { intervalMs: number; timeoutMs: number };
  drain?: { windowMs: number };
  clock?: Clock;
  transports?: Transport[];
  rejectMode?: 'http' | 'close';
  paths?: string[];
  /** Shared by nodes that are to be joined. */
  broker?: Broker;
  /** Whether peers are let in from the start. */
  accepting?: boolean;
  /** Serves what the router leaves. */
  fallback?: RequestListener;
}

/** Tokens of two users, one that has expired, and one of nobody. */
export const TOKEN = {
  ann: secret('token-of-ann'),
  bob: secret('token-of-bob'),
  old: secret('token-of-old-times'),
  bad: secret('token-of-nobody'),
};

/** Knows the tokens above. */
export const tokens: Authenticator = {
  name: 'tokens',
  anonymous: false,
  authenticate({ token }) {
    if (token === TOKEN.old) return Promise.reject(new RealtimeException('token_expired'));
    if (token === TOKEN.ann) return Promise.resolve(new UserIdentity('ann'));
    if (token === TOKEN.bob) return Promise.resolve(new UserIdentity('bob'));
    return Promise.reject(new RealtimeException('unauthenticated'));
  },
};

/** An application whose handler `echo` answers what it gets, and that lets everybody do everything. */
function applicationWith(parts: Partial<Application>): Application {
  return {
    admit: () => Promise.resolve(),
    connected: () => Promise.resolve(),
    resumed: () => Promise.resolve(),
    idempotent: () => false,
    disconnected: () => Promise.resolve(),
    handle(_connection, data, call) {
      if (call.event !== 'echo') return false;
      call.answer(data);
      call.handled();
      return true;
    },
    release: () => undefined,
    subscribing: () => Promise.resolve(undefined),
    publishing: (_connection, _match, _event, data) => Promise.resolve(data),
    unsubscribed: () => Promise.resolve(),
    ...parts,
  };
}

/** A real server on a free port, with the real hub behind the router. */
export class TestNode {
  readonly errors: unknown[] = [];
  readonly #sockets = new Set<Socket>();
  readonly #connections: Connection[] = [];
  readonly #waiting: (() => void)[] = [];
  #called!: () => void;
  /** Resolves once a connection hook was called. */
  readonly called = new Promise<void>((resolve) => (this.#called = resolve));

  private constructor(
    readonly hub: Hub,
    readonly server: Server,
    readonly router: RequestRouter,
    private readonly transports: readonly Transport[],
  ) {
    server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
  }

  static async start(options: NodeOptions = {}): Promise<TestNode> {
    const {
      paths = ['/realtime'],
      transports = [webSocket(), sse(), longPolling(), new SendTransport()],
      fallback = notFound,
    } = options;
    const errors: unknown[] = [];
    const { connected, disconnected, ...application } = options.application ?? {};
    const hub = new Hub(
      resolveSettings({
        broker: options.broker ?? memoryBroker(),
        channels: { 'chat.:room': { publish: true }, 'quiet.:n': { history: false } },
        log: { warn: () => undefined, error: (message, error) => errors.push(error ?? message) },
        heartbeat: options.heartbeat ?? { intervalMs: 60_000, timeoutMs: 60_000 },
        ...pick(options, 'auth', 'channels', 'limits', 'clock', 'drain'),
      }),
      applicationWith({
        ...application,
        ...(disconnected === undefined ? {} : { disconnected }),
        connected: async (connection) => {
          node.#connections.push(connection);
          node.#called();
          await connected?.(connection);
          for (const wake of node.#waiting.splice(0)) wake();
        },
      }),
    );
    await hub.open();
    const onError = (error: unknown): void => void errors.push(error);
    const { maxFrameBytes, maxChannels } = hub.settings.limits;
    for (const transport of transports) transport.open({ maxFrameBytes, maxChannels });
    const handshake = new PeerHandshake(hub, options);
    const router = new RequestRouter({ handshake, transports, onError, ...pick(options, 'rejectMode') });
    for (const path of paths) router.endpoint(path, hub.endpoint(path).key);
    const server = createServer((request, response) => {
      if (!router.handleRequest(request, response)) fallback(request, response);
    });
    server.on('upgrade', (request, socket, head) => {
      if (!router.handleUpgrade(request, socket, head))
        socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n');
    });
    const node: TestNode = new TestNode(hub, server, router, transports);
    node.errors.push(...errors);
    errors.push = (...more: unknown[]) => node.errors.push(...more);
    if (options.accepting !== false) await hub.accept();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return node;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  get host(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** Publishes as the application does. */
  async publish(channel: string, event: string, data: unknown, exclude?: string): Promise<string> {
    const item = { event, data: JSON.stringify(data), ...(exclude === undefined ? {} : { exclude }) };
    return this.hub.publish(this.hub.match(channel), item);
  }

  /** The connections whose hooks were called, in order; waits until there are `count`. */
  async connected(count = 1): Promise<Connection[]> {
    while (this.#connections.length < count) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    return this.#connections;
  }

  async stop(): Promise<void> {
    this.router.close();
    for (const transport of this.transports) transport.close();
    await this.hub.drain();
    await this.hub.close();
    this.server.close();
    for (const socket of this.#sockets) socket.destroy();
    if (this.server.listening) await once(this.server, 'close');
  }
}

const notFound: RequestListener = (_request, response) => response.writeHead(404).end('the application');

function pick<T extends object, K extends keyof T>(from: T, ...names: K[]): Pick<T, K> {
  const picked: Partial<T> = {};
  for (const name of names) if (from[name] !== undefined) picked[name] = from[name];
  return picked as Pick<T, K>;
}
