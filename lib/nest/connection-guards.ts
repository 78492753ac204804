import { Logger, type CanActivate, type Type } from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import type { Connection } from '../hub/connection.js';
import { UserIdentity } from '../hub/identity.js';
import { HandshakeContext, handshakeRequest, HandshakeResponse } from './gateway-handshake.js';
import { GUARDS, metadataList, methodsOf, type Method } from './gateway-metadata.js';
import { askGuardSource, guardSourceOf, resolveScoped, type Guard, type GuardSource } from './guard-sources.js';
import type { ProvidedClass } from './provided-classes.js';

interface GuardedHook {
  readonly metatype: Type;
  readonly handler: Method;
  readonly guards: readonly GuardSource[];
}

/** What guards of all handshakes see as their class and handler. */
class Handshake {
  handleConnection(this: void): void {}
}

const logger = new Logger('Realtime');

/**
 * The guards of the handshake: those of `connectionGuards`, then those on the `handleConnection` methods of the
 * endpoint's gateways. They run before the peer is accepted, with context type `http`, so that guards written for HTTP
 * work as they are. Guards of classes and global ones don't run here: they run for every event.
 */
export class ConnectionGuards {
  #general: GuardedHook | undefined;
  readonly #ofGateways = new Map<ProvidedClass, GuardedHook | undefined>();

  constructor(
    private readonly guards: readonly Guard[],
    private readonly moduleRef: ModuleRef,
  ) {}

  /** Finds or makes the guards of `connectionGuards`. Call once, when the modules have started. */
  async open(): Promise<void> {
    const guards: GuardSource[] = [];
    for (const guard of this.guards) guards.push(await guardSourceOf(this.moduleRef, guard));
    this.#general =
      guards.length === 0 ? undefined : { metatype: Handshake, handler: Handshake.prototype.handleConnection, guards };
  }

  /** Asks the guards whether a peer may connect. Rejects with a `RefusalError`, with the status that a guard chose. */
  async admit(connection: Connection, gateways: readonly ProvidedClass[]): Promise<void> {
    const hooks = [this.#general, ...gateways.map((gateway) => this.#hookOf(gateway))].filter(
      (hook) => hook !== undefined,
    );
    const { request } = connection;
    if (hooks.length === 0 || request === undefined) return;
    const { user } = connection;
    const decorated = handshakeRequest(request, connection);
    const response = new HandshakeResponse();
    for (const { metatype, handler, guards } of hooks) {
      const context = new HandshakeContext(decorated, response, connection, metatype, handler);
      for (const source of guards) await askGuardSource(source, decorated, response, context);
    }
    connection.responseHeaders = response.acceptedHeaders;
    if (decorated.user !== user && decorated.user !== undefined)
      connection.identify(identityOf(decorated.user) ?? user);
  }

  #hookOf(gateway: ProvidedClass): GuardedHook | undefined {
    if (this.#ofGateways.has(gateway)) return this.#ofGateways.get(gateway);
    const { metatype, module } = gateway;
    const handler = methodsOf(metatype).get('handleConnection');
    const guards = handler === undefined ? [] : metadataList(GUARDS, handler);
    const hook =
      handler === undefined || guards.length === 0
        ? undefined
        : { metatype, handler, guards: guards.map((guard) => sourceIn(module, guard as Guard)) };
    this.#ofGateways.set(gateway, hook);
    return hook;
  }
}

/** The guard that a gateway's module holds for its hook. */
function sourceIn(module: ProvidedClass['module'], guard: Guard): GuardSource {
  if (typeof guard !== 'function') return () => guard;
  const wrapper = module.injectables.get(guard);
  if (wrapper === undefined) throw new Error(`${guard.name} can't be resolved in ${module.metatype.name}`);
  if (wrapper.isDependencyTreeStatic() && !wrapper.isTransient) {
    const instance = wrapper.instance as CanActivate;
    return () => instance;
  }
  const moduleRef = module.providers.get(ModuleRef)!.instance as ModuleRef;
  return (request) => resolveScoped(moduleRef, guard, request, true);
}

/** Who a guard says the peer is: its `request.user`, whose id goes by one of several names. */
function identityOf(user: unknown): UserIdentity | undefined {
  if (isIdentity(user)) return user;
  if (typeof user === 'string' || typeof user === 'number') return new UserIdentity(String(user));
  if (typeof user === 'object' && user !== null) {
    const claims = user as Record<string, unknown>;
    const id = ['id', 'sub', 'userId', 'user_id', '_id', 'uuid'].map((name) => claims[name]).find(isId);
    if (id !== undefined) {
      return new UserIdentity(String(id), claims, typeof claims.exp === 'number' ? claims.exp * 1000 : undefined);
    }
  }
  logger.warn('A connection guard set request.user to something without an id, so the connection stays anonymous');
  return undefined;
}

/** By its shape: it may come from another copy of the package. */
function isIdentity(user: unknown): user is UserIdentity {
  const { id, claims } = (user ?? {}) as Partial<UserIdentity>;
  return typeof id === 'string' && typeof claims === 'object';
}

function isId(id: unknown): id is string | number {
  return (typeof id === 'string' && id !== '') || typeof id === 'number';
}
