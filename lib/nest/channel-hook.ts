import type { ArgumentsHost, ExceptionFilter, Type } from '@nestjs/common';
import { ContextIdFactory, ModuleRef, type ContextId, type ExternalContextCreator } from '@nestjs/core';
import { isObservable, lastValueFrom } from 'rxjs';
import { RealtimeException } from '../protocol/errors.js';
import type { Connection } from '../hub/connection.js';
import type { ChannelMatch } from '../hub/definition.js';
import { CATCHES, FILTERS, PARAMETERS, PAYLOAD_PARAM, SOCKET_PARAM, standIn, type Method } from './gateway-metadata.js';
import type { ProvidedClass } from './provided-classes.js';

const CALL = Symbol.for('nestjs-realtime:hook-call');

/** The third argument of a hook: what it is called for. */
export interface HookCall {
  readonly [CALL]: true;
  readonly match: ChannelMatch;
}

/** Whether something in Nest's pipeline is for a hook of a channel gateway. */
export function isHookCall(host: ArgumentsHost): boolean {
  const call: unknown = host.getArgByIndex(2);
  return typeof call === 'object' && call !== null && CALL in call;
}

type HookArgs = [client: Connection, data: unknown, call: HookCall, pattern: string];
type Run = (...args: HookArgs) => Promise<unknown>;
type FilterLike = Type<ExceptionFilter> | ExceptionFilter;

const params = {
  exchangeKeyForValue(type: number, data: string | undefined, [client, body]: HookArgs): unknown {
    if (type === SOCKET_PARAM) return client;
    if (type !== PAYLOAD_PARAM) return null;
    return data === undefined ? body : (body as Record<string, unknown> | null | undefined)?.[data];
  },
};

/**
 * A hook of a channel gateway, run through Nest's own pipeline with context type `ws`: guards, interceptors and pipes of
 * the application, the class, the method and the parameters. Filters run for their effect only: they may throw another
 * exception, but what a guard or the hook refused stays refused.
 */
export class ChannelHook {
  readonly #filters: readonly FilterLike[];
  #run: Run | undefined;

  constructor(
    private readonly provided: ProvidedClass,
    readonly method: string,
    private readonly creator: ExternalContextCreator,
    private readonly moduleRef: ModuleRef,
  ) {
    const { prototype } = provided.metatype as { prototype: Record<string, Method> };
    const filters = [provided.metatype, prototype[method]!].flatMap(
      (target) => (Reflect.getMetadata(FILTERS, target) as FilterLike[] | undefined) ?? [],
    );
    this.#filters = filters.reverse();
  }

  /** Runs the hook. Rejects with whatever refused, translated by the filters. */
  async run(connection: Connection, data: unknown, match: ChannelMatch): Promise<unknown> {
    const args: HookArgs = [connection, data, { [CALL]: true, match }, match.definition.pattern];
    const contextId = this.#contextOf(connection);
    try {
      const run = await this.#prepare(contextId);
      return await run(...args);
    } catch (error) {
      throw await this.#translate(error, args, contextId);
    }
  }

  /** What is made for one call alone, where the class or what stands before it is request-scoped. */
  #contextOf(connection: Connection): ContextId | undefined {
    if (this.provided.wrapper.isDependencyTreeStatic()) return undefined;
    const contextId = ContextIdFactory.create();
    this.moduleRef.registerRequestByContextId(connection, contextId);
    return contextId;
  }

  async #prepare(contextId: ContextId | undefined): Promise<Run> {
    const { metatype, wrapper } = this.provided;
    if (contextId === undefined) return (this.#run ??= this.#create(wrapper.instance as Record<string, Method>));
    const instance = await this.moduleRef.resolve<Record<string, Method>>(
      metatype as Type<Record<string, Method>>,
      contextId,
      { strict: false },
    );
    return this.#create(instance, contextId);
  }

  #create(instance: Record<string, Method>, contextId?: ContextId): Run {
    return this.creator.create(
      instance,
      refusing(instance[this.method]!),
      this.method,
      PARAMETERS,
      params as never,
      contextId,
      this.provided.wrapper.id,
      { guards: true, interceptors: true, filters: false },
      'ws',
    ) as Run;
  }

  async #translate(error: unknown, args: HookArgs, contextId: ContextId | undefined): Promise<unknown> {
    try {
      for (const given of this.#filters) {
        const filter = await this.#instantiate(given, contextId);
        if (!catches(filter, error)) continue;
        await filter.catch(error, argumentsHost(args));
        break;
      }
      return error;
    } catch (translated) {
      return translated;
    }
  }

  async #instantiate(filter: FilterLike, contextId: ContextId | undefined): Promise<ExceptionFilter> {
    if (typeof filter !== 'function') return filter;
    const { injectables, providers } = this.provided.module;
    const wrapper = injectables.get(filter)!;
    if (wrapper.isDependencyTreeStatic() && !wrapper.isTransient) return wrapper.instance as ExceptionFilter;
    const moduleRef = providers.get(ModuleRef)!.instance as ModuleRef;
    return moduleRef.resolve(filter, contextId, { strict: true });
  }
}

/** A method that refuses where it returns a literal `false`, before an interceptor can wrap that. Keeps its metadata. */
function refusing(method: Method): Method {
  return standIn(method, async function (this: unknown, ...args: unknown[]): Promise<unknown> {
    const returned = await method.apply(this, args);
    const result: unknown = isObservable(returned)
      ? await lastValueFrom(returned, { defaultValue: undefined })
      : returned;
    if (result === false) throw new RealtimeException('forbidden');
    return result;
  });
}

function catches(filter: ExceptionFilter, error: unknown): boolean {
  const types = (Reflect.getMetadata(CATCHES, filter.constructor) as Type[] | undefined) ?? [];
  return types.length === 0 || types.some((type) => error instanceof type);
}

function argumentsHost(args: HookArgs): ArgumentsHost {
  const [client, data, , pattern] = args;
  const host = {
    getArgs: () => args,
    getArgByIndex: (index: number) => args[index],
    getType: () => 'ws',
    switchToWs: () => ({ getClient: () => client, getData: () => data, getPattern: () => pattern }),
    switchToHttp: () => ({ getRequest: () => client, getResponse: () => data, getNext: () => undefined }),
    switchToRpc: () => ({ getData: () => client, getContext: () => data }),
  };
  return host as unknown as ArgumentsHost;
}
