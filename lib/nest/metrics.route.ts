import type { ModuleRef } from '@nestjs/core';
import type { Hub } from '../hub/hub.js';
import { inTime } from '../security/in-time.js';
import { ProxyTrust } from '../security/proxy.js';
import type { MetricsPage, MetricsSession } from '../hub/ports/metrics.js';
import type { RequestExchange, Transport } from '../hub/ports/transport.js';
import { GuardedRoute } from './guarded-route.js';
import type { Guard } from './guard-sources.js';
import type { ResolvedOptions } from './options.js';

/** For how long a page is given to all who ask, ms: asking often costs a node nothing. */
const PAGE_MS = 1_000;

/** A page, the node that made it, and when: ms since 1970 by a clock that is never set, so that differences are true. */
interface Made extends MetricsPage {
  readonly node: string;
  readonly at: number;
}

/** `GET {path}/metrics`: what the exporter tells, for those whom the guards let in. Without handshake, also while draining. */
export class MetricsRoute implements Transport {
  readonly name = 'metrics';
  readonly subpath = 'metrics';
  readonly methods = ['GET', 'HEAD'];
  readonly #route: GuardedRoute;
  #page: Promise<Made> | undefined;
  #madeAt = 0;

  constructor(
    private readonly session: MetricsSession,
    guards: readonly Guard[],
    moduleRef: ModuleRef,
    { trustedProxies }: Pick<ResolvedOptions, 'trustedProxies'>,
    private readonly hub: Pick<Hub, 'node' | 'now' | 'settings'>,
  ) {
    this.#route = new GuardedRoute(guards, moduleRef, new ProxyTrust(trustedProxies), hub.settings.clock);
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
    const { contentType, body, node, at } = await this.#read();
    const { response, request } = exchange;
    if (response.headersSent || response.destroyed) return;
    response.statusCode = 200;
    response.setHeader('Content-Type', contentType);
    response.setHeader('Content-Length', Buffer.byteLength(body));
    response.setHeader('Cache-Control', 'no-store');
    response.setHeader('Realtime-Node', node);
    response.setHeader('Realtime-Page-Time', Math.round(at));
    response.setHeader('X-Content-Type-Options', 'nosniff');
    response.end(request.method === 'HEAD' ? undefined : body);
  }

  close(): void {
    return;
  }

  #read(): Promise<Made> {
    const age = this.hub.now() - this.#madeAt;
    if (this.#page === undefined || age < 0 || age >= PAGE_MS) {
      this.#madeAt = this.hub.now();
      const page = inTime(this.hub.settings.clock, 'The page of the metrics', this.#make());
      this.#page = page;
      page.catch(() => {
        if (this.#page === page) this.#page = undefined;
      });
    }
    return this.#page;
  }

  async #make(): Promise<Made> {
    const made = { node: this.hub.node, at: performance.timeOrigin + performance.now() };
    return { ...(await this.session.page()), ...made };
  }
}
