import { ModuleRef, type ModulesContainer } from '@nestjs/core';
import type { Hub } from '../hub/hub.js';

type Module = ModulesContainer extends Map<string, infer M> ? M : never;
type Destroyable = Record<'onModuleDestroy', () => unknown>;

/**
 * Has the hub drain before anything of the application is destroyed: peers are let in and served until then, and
 * disconnection hooks may still use the database. Call it once all providers exist.
 *
 * Nest destroys a module after the other, and waits for each. What it calls in the first one has the drain begin: the
 * `ModuleRef`, of which each module has its own. Nest 12 calls the providers of a module by their level, the highest
 * first; Nest 11 calls all at once, so the others wait. They only wait: an application may call such a hook itself, or
 * share what has it with another application.
 */
export function drainFirst(modules: ModulesContainer, hub: Pick<Hub, 'drain'>): void {
  let drained: Promise<void> | undefined;
  const instances = new Set<Destroyable>();
  for (const module of modules.values()) {
    const herald = module.providers.get(ModuleRef)!;
    herald.hierarchyLevel = Infinity;
    define(herald.instance as object, () => (drained ??= hub.drain()));
    for (const instance of destroyablesOf(module)) instances.add(instance);
  }
  for (const instance of instances) letWait(instance, () => drained);
}

/** What Nest destroys of a module together with its providers. */
function* destroyablesOf({ controllers, providers, injectables, middlewares }: Module): Iterable<Destroyable> {
  for (const wrappers of [controllers, providers, injectables, middlewares]) {
    for (const [token, wrapper] of wrappers) {
      if (token === ModuleRef || wrapper.isTransient || !wrapper.isDependencyTreeStatic()) continue;
      const instance = wrapper.instance;
      if (typeof instance === 'object' && hasHook(instance)) yield instance;
    }
  }
}

function hasHook(instance: object | null): instance is Destroyable {
  return typeof (instance as Partial<Destroyable> | null)?.onModuleDestroy === 'function';
}

/** Puts off a hook until the hub has drained, if it is about to; then the hook is again as it was. */
function letWait(instance: Destroyable, drained: () => Promise<void> | undefined): void {
  const own = instance.onModuleDestroy;
  const before = Object.getOwnPropertyDescriptor(instance, 'onModuleDestroy');
  const waiting = async (): Promise<unknown> => {
    await Promise.resolve(); // what is called beside this one may have the drain begin
    const end = drained();
    await end;
    if (end !== undefined && instance.onModuleDestroy === waiting) {
      Reflect.deleteProperty(instance, 'onModuleDestroy');
      if (before !== undefined) Object.defineProperty(instance, 'onModuleDestroy', before);
    }
    return own.call(instance);
  };
  define(instance, waiting);
}

/** Nothing happens where the object is frozen. */
function define(instance: object, value: () => unknown): void {
  Reflect.defineProperty(instance, 'onModuleDestroy', { configurable: true, writable: true, value });
}
