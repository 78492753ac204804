import type { CanActivate, ExecutionContext, NestInterceptor, PipeTransform, Type } from '@nestjs/common';
import { ContextIdFactory, ModuleRef, type ApplicationConfig } from '@nestjs/core';
import { askGuard } from './gateway-guard.js';
import { GATEWAYS_ARE_CONFIGURED } from './gateway-features.js';
import { GUARDS, INTERCEPTORS, metadataList, PIPES } from './gateway-metadata.js';
import type { ProvidedClass } from './provided-classes.js';

type Wrapper<T> = Pick<ReturnType<ApplicationConfig['getGlobalRequestGuards']>[number], 'host' | 'token'> & {
  readonly instance: T;
};

/**
 * Makes the application's global guards, pipes and interceptors run on gateways where this version of Nest leaves them
 * out, by putting them in front of each class's own while Nest binds the gateways. Global filters are left out: those
 * for HTTP turn a refusal into a TypeError.
 * @returns what takes them out of the classes again; call it once the gateways are bound.
 */
export function inheritGlobals(config: ApplicationConfig, gateways: readonly ProvidedClass[]): () => void {
  const changes = gateways.flatMap((gateway) => {
    const globals = globalsFor(config, gateway);
    return [GUARDS, PIPES, INTERCEPTORS].flatMap((key) => {
      const first = globals[key]!;
      if (first.length === 0) return [];
      const own = Reflect.getOwnMetadata(key, gateway.metatype) as unknown;
      return [{ key, metatype: gateway.metatype, own, value: [...first, ...metadataList(key, gateway.metatype)] }];
    });
  });
  for (const { key, metatype, value } of changes) Reflect.defineMetadata(key, value, metatype);
  return () => {
    for (const { key, metatype, own } of changes) {
      if (own === undefined) Reflect.deleteMetadata(key, metatype);
      else Reflect.defineMetadata(key, own, metatype);
    }
  };
}

/** What Nest does not run by itself. On a gateway that lives longer than a request it never runs request-scoped ones. */
function globalsFor(config: ApplicationConfig, { wrapper }: ProvidedClass): Record<string, readonly unknown[]> {
  const native = GATEWAYS_ARE_CONFIGURED;
  const scoped = !native || wrapper.isDependencyTreeStatic();
  return {
    [GUARDS]: [
      ...(native ? [] : config.getGlobalGuards()),
      ...(scoped ? config.getGlobalRequestGuards().map(scopedGuard) : []),
    ],
    [PIPES]: [
      ...(native ? [] : config.getGlobalPipes()),
      ...(scoped ? config.getGlobalRequestPipes().map(scopedPipe) : []),
    ],
    [INTERCEPTORS]: [
      ...(native ? [] : config.getGlobalInterceptors()),
      ...(scoped ? config.getGlobalRequestInterceptors().map(scopedInterceptor) : []),
    ],
  };
}

function scopedGuard(wrapper: Wrapper<CanActivate>): CanActivate {
  return {
    canActivate: async (context) => askGuard(await resolve(wrapper, context), context),
  };
}

function scopedInterceptor(wrapper: Wrapper<NestInterceptor>): NestInterceptor {
  return {
    intercept: async (context, next) => (await resolve(wrapper, context)).intercept(context, next),
  };
}

function scopedPipe(wrapper: Wrapper<PipeTransform>): PipeTransform {
  return {
    transform: async (value, metadata) => (await resolve(wrapper, undefined)).transform(value, metadata) as unknown,
  };
}

/** One instance per frame, whose request is the connection. */
async function resolve<T>(wrapper: Wrapper<T>, context: ExecutionContext | undefined): Promise<T> {
  const moduleRef = wrapper.host!.providers.get(ModuleRef)!.instance as ModuleRef;
  const contextId = ContextIdFactory.create();
  if (context !== undefined) moduleRef.registerRequestByContextId(context.switchToWs().getClient(), contextId);
  return moduleRef.resolve(wrapper.token as Type<T>, contextId, { strict: true });
}
