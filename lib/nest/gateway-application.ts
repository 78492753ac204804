import type { Application } from '../hub/application.js';
import type { Call } from '../hub/call.js';
import type { Connection } from '../hub/connection.js';
import { errorRow, RealtimeException } from '../protocol/errors.js';
import type { ConnectionGuards } from './connection-guards.js';
import { describeError } from './describe-error.js';
import { dispatch } from './gateway-call.js';
import { isScoped, type BoundHandler, type GatewayEndpoint, type GatewayEndpoints } from './gateway-endpoints.js';
import { GatewayPass } from './gateway-pass.js';
import type { RealtimeAdapter } from './realtime.adapter.js';

/** What an endpoint's gateways have bound for a connection. */
class Binding {
  /** Whether an event came since the last look of the idle sweep. */
  used = true;

  constructor(
    readonly handlers: ReadonlyMap<unknown, BoundHandler>,
    /** What tells them that the connection is over; only where they were bound for good. */
    readonly leave: readonly ((reason: string) => void)[] | undefined,
  ) {}
}

/** What the gateways need of their adapter and their hub, which need them in turn. */
export interface GatewayHost {
  readonly adapter: Pick<RealtimeAdapter, 'tell'>;
  /** Sees to it that `release` is called once the connection was idle for a while. */
  touch(connection: Connection): void;
}

/**
 * The gateways of an application, as the hub sees them. Nest is told of each connection in one synchronous pass over its
 * endpoint's gateways. Handlers are bound at the connection's first event, by another pass in which the hooks do not
 * run, and released when it is idle.
 */
export class GatewayApplication implements Pick<
  Application,
  'admit' | 'connected' | 'resumed' | 'disconnected' | 'handle' | 'release'
> {
  #host: GatewayHost | undefined;

  constructor(
    private readonly endpoints: GatewayEndpoints,
    private readonly guards: ConnectionGuards,
  ) {}

  /** Gives what comes into being later. Call once, before the first connection. */
  attach(host: GatewayHost): void {
    this.#host = host;
  }

  admit(connection: Connection): Promise<void> {
    return this.guards.admit(connection, this.endpoints.at(connection)?.gateways ?? []);
  }

  async connected(connection: Connection): Promise<void> {
    const endpoint = this.endpoints.at(connection);
    if (endpoint === undefined || !(endpoint.scoped > 0 || endpoint.hasHook('handleConnection'))) return;
    const pass = new GatewayPass('handleConnection', false);
    const handlers = endpoint.scoped > 0 ? new Map<unknown, BoundHandler>() : undefined;
    const leave = endpoint.scoped > 0 ? [] : undefined;
    connection.binding = pass;
    try {
      this.#adapter.tell(endpoint.callbacks, connection, { handlers, leave });
      await pass.settled(endpoint.scoped);
    } catch (error) {
      throw refusal(error);
    } finally {
      connection.binding = handlers === undefined ? undefined : new Binding(handlers, leave);
    }
  }

  /** Calls `handleResume` of the endpoint's gateways. Request-scoped ones are made anew, and their handlers kept. */
  async resumed(connection: Connection): Promise<void> {
    const endpoint = this.endpoints.at(connection);
    if (endpoint === undefined) return;
    const handlers = new Map<unknown, BoundHandler>();
    const leave: ((reason: string) => void)[] = [];
    try {
      const running = endpoint.gateways
        .filter((gateway) => !isScoped(gateway))
        .map(({ wrapper }) => resume(wrapper.instance as object, connection));
      if (endpoint.scoped > 0) {
        const pass = new GatewayPass('handleConnection', false, (gateway) => {
          return endpoint.gateways.some(({ wrapper }) => wrapper.instance === gateway)
            ? undefined
            : resume(gateway, connection);
        });
        connection.binding = pass;
        this.#adapter.tell(endpoint.callbacks, connection, { handlers, leave });
        await pass.settled(endpoint.scoped);
      }
      await Promise.all(running);
    } catch (error) {
      throw refusal(error);
    } finally {
      connection.binding = endpoint.scoped > 0 ? new Binding(handlers, leave) : undefined;
    }
  }

  async disconnected(connection: Connection): Promise<void> {
    const endpoint = this.endpoints.at(connection);
    const binding = this.#bindingOf(connection);
    connection.binding = undefined;
    if (endpoint === undefined || !(endpoint.scoped > 0 || endpoint.hasHook('handleDisconnect'))) return;
    const pass = new GatewayPass('handleDisconnect', true);
    connection.binding = pass;
    try {
      const reason = connection.closed?.reason ?? '';
      for (const leave of binding?.leave ?? this.#leave(endpoint, connection)) leave(reason);
      await pass.settled(endpoint.scoped);
    } catch (error) {
      describeError(error); // logs what was not meant
    } finally {
      connection.binding = undefined;
    }
  }

  handle(connection: Connection, data: unknown, call: Call): boolean {
    const binding = this.#bindingOf(connection) ?? this.#bind(connection, call.event);
    const handler = binding?.handlers.get(call.event);
    if (binding === undefined || handler === undefined) return false;
    binding.used = true;
    dispatch(connection, handler, data, call);
    return true;
  }

  release(connection: Connection): void {
    const binding = this.#bindingOf(connection);
    if (binding === undefined || binding.leave !== undefined) return;
    if (binding.used) {
      binding.used = false;
      this.#host!.touch(connection);
    } else {
      connection.binding = undefined;
    }
  }

  /** Has Nest bind the endpoint's handlers, unless none of them takes the event. */
  #bind(connection: Connection, event: string): Binding | undefined {
    const endpoint = this.endpoints.at(connection);
    if (endpoint?.events.has(event) !== true) return undefined;
    const handlers = new Map<unknown, BoundHandler>();
    connection.binding = new GatewayPass(undefined, true);
    this.#adapter.tell(endpoint.callbacks, connection, { handlers, leave: undefined });
    const binding = new Binding(handlers, undefined);
    connection.binding = binding;
    this.#host!.touch(connection);
    return binding;
  }

  /** Nest's way to tell the gateways of an end: any one of them is told for all that share a stream of hooks. */
  #leave(endpoint: GatewayEndpoint, connection: Connection): ((reason: string) => void)[] {
    const leave: ((reason: string) => void)[] = [];
    const callbacks = endpoint.opened > 1 ? endpoint.callbacks : endpoint.callbacks.slice(0, 1);
    this.#adapter.tell(callbacks, connection, { handlers: undefined, leave });
    return leave;
  }

  #bindingOf(connection: Connection): Binding | undefined {
    return connection.binding instanceof Binding ? connection.binding : undefined;
  }

  get #adapter(): Pick<RealtimeAdapter, 'tell'> {
    return this.#host!.adapter;
  }
}

/** A gateway that wants to know when a connection comes to this node from another. */
export interface OnGatewayResume<C = Connection> {
  /**
   * A connection over a transport that outlives its links came to this node from another one: `client` is an object of
   * this node, with the `id`, `user` and `data` (JSON, at most 4 KiB) that it had there; other properties did not travel.
   * To throw ends the connection. `handleConnection` has run when the connection was made, and does not run again.
   */
  handleResume(client: C): unknown;
}

async function resume(gateway: object, connection: Connection): Promise<void> {
  await (gateway as Partial<OnGatewayResume>).handleResume?.(connection);
}

/**
 * What ends a connection whose hook threw: the code of the error; where that closes nothing by itself and coming back
 * changes nothing, `forbidden`.
 */
function refusal(error: unknown): RealtimeException {
  const { code, message, details, retryAfterMs } = describeError(error);
  const { close, retry } = errorRow(code);
  const closing = close === undefined && retry === 'no' ? 'forbidden' : code;
  const exception = new RealtimeException(closing, message, details);
  if (retryAfterMs !== undefined) exception.retryAfterMs = retryAfterMs;
  return exception;
}
