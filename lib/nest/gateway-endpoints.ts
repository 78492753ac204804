import type { Connection } from '../hub/connection.js';
import { Endpoint } from '../hub/endpoint.js';
import { endpointPath, eventsOf, gatewayOptionsOf, gatewayPortOf } from './gateway-metadata.js';
import { GATEWAYS_ARE_CONFIGURED } from './gateway-features.js';
import type { GatewayHook } from './gateway-hooks.js';
import { isIdempotent } from './idempotent.decorator.js';
import type { ProvidedClass } from './provided-classes.js';

/** What Nest made of a `@SubscribeMessage()` method for one client. */
export interface BoundHandler {
  readonly callback: (data: unknown, reply: (data?: unknown) => void) => unknown;
  /** Whether the method has `@Ack()`, and answers by itself. */
  readonly isAckHandledManually?: boolean;
}

/** What Nest calls for a client that connected: it calls the hooks, and binds the client's handlers. */
export type ConnectCallback = (client: Connection, request: unknown) => void;

/** The gateways of one endpoint. */
export class GatewayEndpoint {
  readonly gateways: ProvidedClass[] = [];
  readonly callbacks: ConnectCallback[] = [];
  /** The events that its gateways take. */
  readonly events = new Set<unknown>();
  /** Those whose handlers may run again. */
  readonly idempotent = new Set<unknown>();
  /** How often Nest opened it: gateways whose options are written differently share no streams of hooks. */
  opened = 0;
  /**
   * How many of its gateways are request-scoped: Nest makes them when it calls a hook, once per connection, so their
   * handlers are bound at once and kept.
   */
  scoped = 0;

  add(gateway: ProvidedClass): void {
    this.gateways.push(gateway);
    for (const { event, method } of eventsOf(gateway.metatype)) {
      this.events.add(event);
      if (isIdempotent(gateway.metatype, method)) this.idempotent.add(event);
    }
    if (isScoped(gateway)) this.scoped++;
  }

  /** Whether any gateway has a hook. */
  hasHook(name: GatewayHook): boolean {
    return this.gateways.some((gateway) => hasHook(gateway, name));
  }
}

/** The endpoints that gateways are bound to. */
export class GatewayEndpoints {
  readonly #endpoints = new Map<string, GatewayEndpoint>();

  /** Enters what the gateway classes of an application say. */
  enter(gateways: readonly ProvidedClass[], preset: string): void {
    for (const gateway of gateways) {
      const path = endpointPath(gatewayOptionsOf(gateway.metatype).path, preset);
      this.of(new Endpoint(path, gatewayPortOf(gateway.metatype))).add(gateway);
    }
  }

  /** The gateways of an endpoint that Nest binds. */
  of({ key }: Endpoint): GatewayEndpoint {
    return this.#open(key);
  }

  /** The events that gateways take. */
  *events(): Iterable<unknown> {
    for (const { events } of this.#endpoints.values()) yield* events;
  }

  /** The gateways where a connection arrived. */
  at(connection: Connection): GatewayEndpoint | undefined {
    return this.#endpoints.get(connection.endpoint);
  }

  #open(key: string): GatewayEndpoint {
    let endpoint = this.#endpoints.get(key);
    if (endpoint === undefined) this.#endpoints.set(key, (endpoint = new GatewayEndpoint()));
    return endpoint;
  }
}

function hasHook({ metatype, wrapper }: ProvidedClass, name: GatewayHook): boolean {
  const instance = wrapper.instance as Partial<Record<string, unknown>> | undefined;
  return typeof (instance ?? (metatype.prototype as Record<string, unknown>))[name] === 'function';
}

/** Whether Nest makes a gateway for each connection. */
export function isScoped({ wrapper }: ProvidedClass): boolean {
  return GATEWAYS_ARE_CONFIGURED && !wrapper.isDependencyTreeStatic();
}
