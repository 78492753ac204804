import type { ModuleRef } from '@nestjs/core';
import type { Desk } from '../admin/desk.js';
import type { Hub } from '../hub/hub.js';
import type { RequestExchange, Transport } from '../hub/ports/transport.js';
import { RealtimeException } from '../protocol/errors.js';
import { OriginPolicy } from '../security/origin.js';
import { ProxyTrust } from '../security/proxy.js';
import { CHECKPOINTS } from './audit.js';
import type { Auditor } from './auditor.js';
import { GuardedRoute } from './guarded-route.js';
import type { AdminOptions, ResolvedOptions } from './options.js';

type Serve = (desk: Desk, exchange: RequestExchange) => void | Promise<void>;

/** What is served below the module's path. The page may be come to from anywhere, the rest is for the page alone. */
const ROUTES: readonly (readonly [subpath: string, method: 'GET' | 'POST', serve: Serve])[] = [
  ['admin', 'GET', (desk, exchange) => desk.page(exchange)],
  ['admin/stream', 'GET', (desk, exchange) => desk.stream(exchange)],
  ['admin/tail', 'GET', (desk, exchange) => desk.tail(exchange)],
  ['admin/connections', 'GET', (desk, exchange) => desk.connections(exchange)],
  ['admin/channel', 'GET', (desk, exchange) => desk.channel(exchange)],
  ['admin/disconnect', 'POST', (desk, exchange) => desk.disconnect(exchange)],
  ['admin/publish', 'POST', (desk, exchange) => desk.publish(exchange)],
];

/** What the router sets for pages of other origins. */
const CORS_HEADERS = ['Access-Control-Allow-Origin', 'Access-Control-Allow-Credentials'];

/** The routes of the admin page, for those whom the guards let in. Without handshake. The code behind is loaded with the first. */
export class AdminRoutes {
  readonly routes: readonly Transport[];
  readonly #guarded: GuardedRoute;
  readonly #origins: OriginPolicy;
  #desk: Desk | undefined;

  constructor(
    private readonly hub: Hub,
    private readonly auditor: Auditor,
    private readonly options: AdminOptions,
    moduleRef: ModuleRef,
    { trustedProxies }: Pick<ResolvedOptions, 'trustedProxies'>,
  ) {
    const proxies = new ProxyTrust(trustedProxies);
    this.#guarded = new GuardedRoute(options.guards, moduleRef, proxies, hub.settings.clock);
    this.#origins = new OriginPolicy('same-host', proxies);
    this.routes = ROUTES.map(([subpath, method, serve]) => this.#route(subpath, method, serve));
  }

  /** Finds the guards, and starts to take samples. */
  async prepare(): Promise<void> {
    await this.#guarded.open();
    const { Desk } = await import('../admin/desk.js');
    const { hub, auditor } = this;
    const { readOnly = true } = this.options;
    const findings = (): ReturnType<Auditor['findings']> => auditor.findings();
    this.#desk = new Desk({ hub, readOnly, checks: CHECKPOINTS, findings });
    await this.#desk.open();
  }

  /** Tells the other nodes that this one goes. Never rejects. */
  async close(): Promise<void> {
    await this.#desk?.close();
  }

  #route(subpath: string, method: 'GET' | 'POST', serve: Serve): Transport {
    return {
      name: 'admin',
      subpath,
      methods: subpath === 'admin' ? ['GET', 'HEAD'] : [method],
      open: () => undefined,
      close: () => undefined,
      serve: async (exchange) => {
        for (const name of CORS_HEADERS) exchange.response.removeHeader(name);
        await this.#guarded.admit(exchange);
        if (subpath !== 'admin' && !this.#isOfOwnPage(exchange)) throw new RealtimeException('origin_refused');
        if (exchange.response.headersSent || exchange.response.destroyed) return;
        await serve(this.#desk!, exchange);
      },
    };
  }

  /** Whether a browser says that a page of this host asks; who is no browser says nothing, and brings no cookies of others. */
  #isOfOwnPage({ request }: RequestExchange): boolean {
    const site = request.headers['sec-fetch-site'];
    if (site === 'same-origin') return true; // a proxy may name another host than the browser does
    return (site === undefined || (site === 'none' && request.method === 'GET')) && this.#origins.allows(request);
  }
}
