import type { ModuleRef } from '@nestjs/core';
import type { RequestExchange } from '../hub/ports/transport.js';
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
  ) {}

  /** Finds or makes the guards, so that mistakes show as the application starts. */
  async open(): Promise<void> {
    await this.#found;
  }

  /** Asks the guards; what they set on the response is set. Rejects with a `RefusalError`, with the status that one chose. */
  async admit({ request, response, query }: RequestExchange): Promise<void> {
    const peer = { ip: this.proxies.clientAddress(request), query: Object.fromEntries(query), params: {} };
    const decorated = handshakeRequest(request, peer);
    const answer = new HandshakeResponse();
    const context = new HandshakeContext(decorated, answer, undefined, Route, Route.prototype.serve);
    for (const source of await this.#found) await askGuardSource(source, decorated, answer, context);
    for (const [name, value] of Object.entries(answer.acceptedHeaders ?? {})) response.setHeader(name, value);
  }

  get #found(): Promise<GuardSource[]> {
    return (this.#sources ??= Promise.all(this.guards.map((guard) => guardSourceOf(this.moduleRef, guard))));
  }
}
