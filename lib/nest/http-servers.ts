import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import type { HttpServer } from '@nestjs/common';
import type { Hub } from '../hub/hub.js';
import { PeerHandshake } from '../security/handshake.js';
import type { Transport } from '../hub/ports/transport.js';
import { RequestRouter } from '../transports/router.js';
import { PayloadTransport } from '../transports/payload.transport.js';
import { SendTransport } from '../transports/send.transport.js';
import { TicketTransport } from '../transports/ticket.transport.js';
import { listenToUpgrades, mountRoutes, stepInFront } from './http-mount.js';
import { describeFinding, UNTRUSTED_PROXY } from './audit.js';
import type { ResolvedOptions } from './options.js';

/** The servers at which peers arrive: the application's, and one for each port that a gateway names. */
export class HttpServers {
  readonly #routers = new Map<number, RequestRouter>();
  readonly #owned: Server[] = [];
  readonly #unmount: (() => void)[] = [];
  readonly #handshake: PeerHandshake;
  readonly #transports: readonly Transport[];
  /** Whether a proxy that is not trusted has named the address of a peer. */
  untrustedProxy = false;

  constructor(
    private readonly hub: Hub,
    private readonly options: ResolvedOptions,
    /** What is served below the path of the module alone, besides the wires. */
    private readonly routes: readonly Transport[] = [],
  ) {
    const { transports } = options;
    const issues = hub.auth.anonymous !== true;
    const sends = transports.some(({ takesFrames }) => takesFrames === true);
    const beside = [
      new PayloadTransport(hub),
      ...(sends ? [new SendTransport()] : []),
      ...(issues ? [new TicketTransport(hub)] : []),
    ];
    this.#transports = transports.length > 0 ? [...transports, ...beside] : transports;
    this.#handshake = new PeerHandshake(hub, options, () => {
      this.untrustedProxy = true;
      hub.log.warn(describeFinding(UNTRUSTED_PROXY));
    });
    const { maxFrameBytes, maxChannels } = hub.settings.limits;
    for (const transport of this.#transports) transport.open({ maxFrameBytes, maxChannels });
  }

  /** Serves every endpoint of the application's own port on the application's server. */
  mount(adapter: HttpServer): void {
    this.#unmount.push(mountRoutes(adapter, this.#router(0)));
  }

  /** Opens the servers of gateways with a port of their own. */
  async listen(): Promise<void> {
    const ports = new Set([...this.hub.endpoints()].map(({ port }) => port).filter((port) => port !== 0));
    for (const port of ports) {
      const server = createServer((_request, response) => response.writeHead(404).end());
      const router = this.#router(port);
      this.#unmount.push(stepInFront(server, router), listenToUpgrades(server, router));
      server.listen(port);
      await once(server, 'listening');
      this.#owned.push(server);
    }
  }

  /** Whether peers can come. */
  get serving(): boolean {
    return this.options.transports.length > 0 && this.#routers.size > 0;
  }

  /** Takes nothing any more, and destroys what is left of links. Idempotent. */
  async close(): Promise<void> {
    for (const unmount of this.#unmount.splice(0)) unmount();
    for (const router of this.#routers.values()) router.close();
    for (const transport of this.#transports) transport.close();
    for (const server of this.#owned.splice(0)) {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    }
  }

  #router(port: number): RequestRouter {
    let router = this.#routers.get(port);
    if (router === undefined) {
      const { rejectMode } = this.options;
      const onError = (error: unknown): void => this.hub.log.error('A handshake failed', error);
      router = new RequestRouter({ handshake: this.#handshake, transports: this.#transports, rejectMode, onError });
      for (const endpoint of this.hub.endpoints()) {
        if (endpoint.port === port) router.endpoint(endpoint.path, endpoint.key);
      }
      const { path } = this.options;
      for (const route of port === 0 ? this.routes : []) router.route(path, this.hub.endpoint(path).key, route);
      this.#routers.set(port, router);
    }
    return router;
  }
}
