import type { Type } from '@nestjs/common';
import type { ModulesContainer } from '@nestjs/core';
import type { Mistake } from '../hub/settings.js';
import { FILTERS, GUARDS, INTERCEPTORS, metadataList, methodsOf, PARAMETERS, PIPES } from './gateway-metadata.js';

type Module = ModulesContainer extends Map<string, infer M> ? M : never;
type Wrapper = Module['providers'] extends Map<unknown, infer W> ? W : never;

/** A class that a module provides. */
export interface ProvidedClass {
  readonly metatype: Type;
  readonly wrapper: Wrapper;
  readonly module: Module;
}

const ENHANCERS = [GUARDS, PIPES, INTERCEPTORS, FILTERS];

/**
 * Finds the classes that carry a metadata key among the providers. Reports those that Nest would serve wrongly without
 * a word: made by a factory or given as a value, provided in two modules, or with an enhancer
 * class that their module does not hold.
 */
export function findProvidedClasses(modules: ModulesContainer, key: string, mistakes: Mistake[]): ProvidedClass[] {
  const found = new Map<Type, ProvidedClass>();
  for (const module of modules.values()) {
    for (const wrapper of module.providers.values()) {
      const metatype = classOf(wrapper);
      if (metatype === undefined || !Reflect.hasMetadata(key, metatype)) continue;
      if (wrapper.isAlias) continue;
      if (wrapper.isNotMetatype) {
        mistakes.push({
          path: metatype.name,
          message: 'is provided by useFactory or useValue, so its guards would not run; list the class in `providers`',
        });
      } else if (found.has(metatype)) {
        const other = found.get(metatype)!.module.metatype.name;
        mistakes.push({
          path: metatype.name,
          message: `is provided in ${other} and in ${module.metatype.name}, so it would run twice; export it from one`,
        });
      } else {
        found.set(metatype, { metatype, wrapper, module });
      }
    }
  }
  for (const provided of found.values()) mistakes.push(...findEnhancerMistakes(provided));
  return [...found.values()];
}

/** The class behind a provider; of what a factory makes, as far as the token or the instance tells. */
function classOf(wrapper: Wrapper): Type | undefined {
  const { metatype, instance, token } = wrapper as { metatype: unknown; instance: unknown; token: unknown };
  if (!wrapper.isNotMetatype) return typeof metatype === 'function' ? (metatype as Type) : undefined;
  if (typeof instance === 'object' && instance !== null) return (instance as { constructor: Type }).constructor;
  return typeof token === 'function' ? (token as Type) : undefined;
}

function findEnhancerMistakes({ metatype, module }: ProvidedClass): Mistake[] {
  const methods = methodsOf(metatype);
  const enhancers = [metatype, ...methods.values()].flatMap((target) =>
    ENHANCERS.flatMap((key) => metadataList(key, target)),
  );
  for (const name of methods.keys()) enhancers.push(...parameterPipesOf(metatype, name));
  const classes = new Set(enhancers.filter((enhancer): enhancer is Type => typeof enhancer === 'function'));
  return [...classes]
    .filter((enhancer) => !module.injectables.has(enhancer))
    .map((enhancer) => ({
      path: metatype.name,
      message: `uses ${enhancer.name}, which ${module.metatype.name} cannot resolve, so it would not run`,
    }));
}

/** The pipes of a method's parameters, such as `@MessageBody(TrimPipe)`. */
function parameterPipesOf(metatype: Type, method: string): unknown[] {
  const parameters = Reflect.getMetadata(PARAMETERS, metatype, method) as
    Record<string, { pipes?: unknown[] }> | undefined;
  return Object.values(parameters ?? {}).flatMap(({ pipes }) => pipes ?? []);
}
