import type { ModuleRef } from '@nestjs/core';
import type { Clock } from '../hub/ports/clock.js';
import type { RequestExchange } from '../hub/ports/transport.js';
import { inTime } from '../security/in-time.js';
import type { ProxyTrust } from '../security/proxy.js';
import { HandshakeContext, handshakeRequest, HandshakeResponse } from './gateway-handshake.js';
import { askGuardSource, guardSourceOf, type Guard, type GuardSource } from './guard-sources.js';

/** What guards of a route see as their class and handler. */
class Route {
  serve(this: void): void {}
}

/** The guards of a route that is no wire: asked with a context of type `http`, before anything is answered. */
export class GuardedRoute {
  #sources: Promise<GuardSource[]> | undefined;

  constructor(
    private readonly guards: readonly Guard[],
    private readonly moduleRef: ModuleRef,
    private readonly proxies: ProxyTrust,
    private readonly clock: Clock,
  ) {}

  /** Finds or makes the guards, so that mistakes show as the application starts. */
  async open(): Promise<void> {
    await this.#found;
  }

  /**
   * Asks the guards; what they set on the response is set. Rejects with a `RefusalError`, with the status that one chose,
   * and where they take too long. The response may have been sent meanwhile, or its peer may be gone.
   */
  async admit(exchange: RequestExchange): Promise<void> {
    const { response } = exchange;
    const headers = await inTime(this.clock, 'The guards of a route', this.#ask(exchange));
    if (response.headersSent) return;
    for (const [name, value] of Object.entries(headers ?? {})) response.setHeader(name, value);
  }

  async #ask({ request, query }: RequestExchange): Promise<HandshakeResponse['acceptedHeaders']> {
    const peer = { ip: this.proxies.clientAddress(request), query: Object.fromEntries(query), params: {} };
    const decorated = handshakeRequest(request, peer);
    const answer = new HandshakeResponse();
    const context = new HandshakeContext(decorated, answer, undefined, Route, Route.prototype.serve);
    for (const source of await this.#found) await askGuardSource(source, decorated, answer, context);
    return answer.acceptedHeaders;
  }

  get #found(): Promise<GuardSource[]> {
    return (this.#sources ??= Promise.all(this.guards.map((guard) => guardSourceOf(this.moduleRef, guard))));
  }
}
