import { Logger, type HttpServer } from '@nestjs/common';
import type { ApplicationConfig, HttpAdapterHost, ModulesContainer } from '@nestjs/core';
import { AbstractWsAdapter } from '@nestjs/websockets';
import type { Connection } from '../hub/connection.js';
import type { Endpoint } from '../hub/endpoint.js';
import type { Hub } from '../hub/hub.js';
import type { Mistake } from '../hub/settings.js';
import { isScoped, type BoundHandler, type ConnectCallback, type GatewayEndpoints } from './gateway-endpoints.js';
import { prepareFilters } from './gateway-filters.js';
import { wrapHooks } from './gateway-hooks.js';
import { endpointPath, GATEWAY, gatewayOptionsOf, gatewayPortOf, serverPropertiesOf } from './gateway-metadata.js';
import { inheritGlobals } from './global-enhancers.js';
import { bootError, type ResolvedOptions } from './options.js';
import { findProvidedClasses } from './provided-classes.js';

/** What the adapter is made of. */
export interface RealtimeAdapterParts {
  readonly hub: Pick<Hub, 'endpoint'>;
  readonly options: Pick<ResolvedOptions, 'path' | 'globalEnhancers'>;
  readonly endpoints: GatewayEndpoints;
  readonly config: ApplicationConfig;
  readonly modules: ModulesContainer;
  readonly host: HttpAdapterHost;
  /** Called when Nest closes its servers, after the modules were told to shut down. */
  dispose(): Promise<void>;
}

/** What Nest gives to be bound: a handler, and the event that it takes. */
type MessageHandler = BoundHandler & { readonly message: unknown };

/** What is collected while Nest binds one connection. */
export interface Collected {
  readonly handlers: Map<unknown, BoundHandler> | undefined;
  readonly leave: ((reason: string) => void)[] | undefined;
}

/**
 * Nest's way to the hub: serves unmodified gateways over every transport. The module installs it by itself. It accepts
 * nobody; the hub tells the gateways of a connection once its handshake is done.
 */
export class RealtimeAdapter extends AbstractWsAdapter {
  readonly #logger = new Logger('Realtime');
  readonly #parts: RealtimeAdapterParts;
  #bindings = 0;
  #unbound = 0;
  #restore: (() => void) | undefined;
  #warned = false;
  #collected: Collected | undefined;

  constructor(parts: RealtimeAdapterParts) {
    super();
    this.#parts = parts;
  }

  /** Nest sets this right before it binds the gateways: the last moment to prepare their classes. */
  override set forceCloseConnections(value: boolean) {
    super.forceCloseConnections = value;
    // A hybrid application binds the same gateways once more; the first binding serves them.
    if (this.#bindings++ === 0) this.#prepare();
  }

  override get forceCloseConnections(): boolean {
    return super.forceCloseConnections;
  }

  override create(port: number, options: { path?: string; server?: Endpoint } = {}): Endpoint {
    if (options.server !== undefined) return options.server; // a namespace, refused when the module starts
    const endpoint = this.#parts.hub.endpoint(endpointPath(options.path, this.#parts.options.path), port);
    if (this.#bindings <= 1) this.#parts.endpoints.of(endpoint).opened++;
    this.#warnWithoutHttp();
    return endpoint;
  }

  override bindClientConnect(endpoint: Endpoint, callback: ConnectCallback): void {
    if (this.#bindings > 1) return;
    this.#parts.endpoints.of(endpoint).callbacks.push(callback);
    if (--this.#unbound === 0) this.#restoreClasses();
  }

  override bindMessageHandlers(_client: Connection, handlers: readonly MessageHandler[]): void {
    const collected = this.#collected?.handlers;
    if (collected === undefined) return;
    for (const handler of handlers) collected.set(handler.message, handler);
  }

  override bindClientDisconnect(_client: Connection, callback: (reason: string) => void): void {
    this.#collected?.leave?.push(callback);
  }

  /** Nest is done with an endpoint. The hub closes its connections when it drains. */
  override close(): Promise<void> {
    return Promise.resolve();
  }

  override dispose(): Promise<void> {
    return this.#parts.dispose();
  }

  /** Gives gateways an endpoint, where no peer can come, if Nest bound none because it has no server. */
  bindInert(): void {
    const { modules } = this.#parts;
    if (this.#bindings > 0 || this.#hasHttp) return;
    for (const { metatype, wrapper } of findProvidedClasses(modules, GATEWAY, [])) {
      const endpoint = this.create(gatewayPortOf(metatype), gatewayOptionsOf(metatype));
      const gateway = wrapper.instance as Record<string, unknown>;
      for (const property of serverPropertiesOf(gateway)) gateway[property] = endpoint;
    }
  }

  /** Lets Nest tell gateways of a connection; what it binds meanwhile goes to `collected`. */
  tell(callbacks: readonly ConnectCallback[], connection: Connection, collected: Collected): void {
    const before = this.#collected;
    this.#collected = collected;
    try {
      for (const callback of callbacks) callback(connection, connection.request);
    } finally {
      this.#collected = before;
    }
  }

  #prepare(): void {
    const { modules, options, endpoints, config } = this.#parts;
    const gateways = findProvidedClasses(modules, GATEWAY, []);
    for (const gateway of gateways) {
      wrapHooks(gateway.metatype, gateway.wrapper.instance, isScoped(gateway));
      prepareFilters(gateway);
    }
    endpoints.enter(gateways, options.path);
    if (options.globalEnhancers === 'native') return;
    this.#unbound = gateways.length;
    this.#restore = inheritGlobals(config, gateways);
    setImmediate(() => this.#restoreClasses()); // where Nest binds none of them: a preview
  }

  #restoreClasses(): void {
    this.#restore?.();
    this.#restore = undefined;
  }

  /** A worker has no HTTP adapter; Nest leaves it null or undefined. */
  get #hasHttp(): boolean {
    const http = this.#parts.host.httpAdapter as HttpServer | null | undefined;
    return http !== null && http !== undefined;
  }

  #warnWithoutHttp(): void {
    if (this.#hasHttp || this.#warned) return;
    this.#warned = true;
    this.#logger.warn('This application has no HTTP server, so nobody can reach its gateways; publishing works');
  }
}

/** Finds an adapter that took the place of ours. Call it when the module starts. */
export function findForeignAdapter(config: ApplicationConfig, adapter: RealtimeAdapter): Mistake[] {
  const found: unknown = config.getIoAdapter();
  return found === adapter ? [] : [foreignAdapter(found)];
}

/** Refuses other adapters from now on: Nest would ask them for what is bound to ours, when peers come and at the end. */
export function keepAdapter(config: ApplicationConfig): void {
  const setIoAdapter = (found: unknown): never => {
    throw bootError('RealtimeModule has started', [foreignAdapter(found)]);
  };
  Object.defineProperty(config, 'setIoAdapter', { configurable: true, writable: true, value: setIoAdapter });
}

function foreignAdapter(found: unknown): Mistake {
  const name = (found as { constructor?: { name?: string } } | null)?.constructor?.name ?? 'another adapter';
  const message = `expected the adapter of RealtimeModule, got ${name}; remove app.useWebSocketAdapter(), the module installs its own`;
  return { path: 'useWebSocketAdapter', message };
}
