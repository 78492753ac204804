import type { ModuleRef } from '@nestjs/core';
import { ProxyTrust } from '../security/proxy.js';
import type { MetricsPage, MetricsSession } from '../hub/ports/metrics.js';
import type { RequestExchange, Transport } from '../hub/ports/transport.js';
import { GuardedRoute } from './guarded-route.js';
import type { Guard } from './guard-sources.js';
import type { ResolvedOptions } from './options.js';

/** For how long a page is given to all who ask, ms: asking often costs a node nothing. */
const PAGE_MS = 1_000;

/** `GET {path}/metrics`: what the exporter tells, for those whom the guards let in. Without handshake, also while draining. */
export class MetricsRoute implements Transport {
  readonly name = 'metrics';
  readonly subpath = 'metrics';
  readonly methods = ['GET', 'HEAD'];
  readonly #route: GuardedRoute;
  #page: Promise<MetricsPage> | undefined;
  #madeAt = 0;

  constructor(
    private readonly session: MetricsSession,
    guards: readonly Guard[],
    moduleRef: ModuleRef,
    { trustedProxies }: Pick<ResolvedOptions, 'trustedProxies'>,
    private readonly now: () => number,
  ) {
    this.#route = new GuardedRoute(guards, moduleRef, new ProxyTrust(trustedProxies));
  }

  open(): void {
    return;
  }

  /** Finds the guards. */
  prepare(): Promise<void> {
    return this.#route.open();
  }

  async serve(exchange: RequestExchange): Promise<void> {
    await this.#route.admit(exchange);
    const { contentType, body } = await this.#read();
    const { response, request } = exchange;
    if (response.headersSent || response.destroyed) return;
    response.statusCode = 200;
    response.setHeader('Content-Type', contentType);
    response.setHeader('Content-Length', Buffer.byteLength(body));
    response.setHeader('Cache-Control', 'no-store');
    response.setHeader('X-Content-Type-Options', 'nosniff');
    response.end(request.method === 'HEAD' ? undefined : body);
  }

  close(): void {
    return;
  }

  #read(): Promise<MetricsPage> {
    const age = this.now() - this.#madeAt;
    if (this.#page === undefined || age < 0 || age >= PAGE_MS) {
      this.#madeAt = this.now();
      const page = this.session.page();
      this.#page = page;
      page.catch(() => (this.#page = undefined));
    }
    return this.#page;
  }
}
