import type { Logger } from '@nestjs/common';
import type { ExternalContextCreator, ModuleRef, ModulesContainer, SerializedGraph } from '@nestjs/core';
import { RealtimeException } from '../protocol/errors.js';
import type { Application, LeaveReason } from '../hub/application.js';
import type { Connection } from '../hub/connection.js';
import {
  patternMistake,
  resolveDefinition,
  type ChannelMatch,
  type ChannelOptions,
  type Declarations,
} from '../hub/definition.js';
import { findChannelMistakes, type Mistake } from '../hub/settings.js';
import {
  CHANNEL_GATEWAY,
  CHANNEL_HOOK,
  type ChannelGatewayMetadata,
  type ChannelHookMetadata,
} from './channel.decorators.js';
import { ChannelHook } from './channel-hook.js';
import { describeError } from './describe-error.js';
import { findProvidedClasses, type ProvidedClass } from './provided-classes.js';

interface Hooks {
  subscribe?: ChannelHook;
  unsubscribe?: ChannelHook;
  readonly publish: Map<string | undefined, ChannelHook>;
}

/** The channel gateways of the application: what their classes declare, and their hooks. */
export class ChannelGateways implements Pick<Application, 'subscribing' | 'publishing' | 'unsubscribed'> {
  readonly #hooks = new Map<string, Hooks>();

  constructor(
    private readonly creator: ExternalContextCreator,
    private readonly moduleRef: ModuleRef,
    private readonly graph: Pick<SerializedGraph, 'insertEntrypoint'>,
    private readonly logger: Logger,
  ) {}

  /** Finds the classes and declares their channels. Returns the classes; adds what is wrong to `mistakes`. */
  explore(
    modules: ModulesContainer,
    declarations: Declarations,
    preset: Readonly<Record<string, ChannelOptions>>,
    mistakes: Mistake[],
  ): readonly ProvidedClass[] {
    const classes = findProvidedClasses(modules, CHANNEL_GATEWAY, mistakes);
    for (const provided of classes) {
      const { pattern, options } = Reflect.getMetadata(CHANNEL_GATEWAY, provided.metatype) as ChannelGatewayMetadata;
      const path = provided.metatype.name;
      const wrong = patternMistake(pattern);
      if (wrong !== undefined) {
        mistakes.push({ path, message: `expected a channel pattern: ${wrong}` });
        continue;
      }
      const found = findChannelMistakes(path, options);
      mistakes.push(...found);
      if (found.length > 0) continue;
      if (this.#hooks.has(pattern))
        mistakes.push({ path, message: `another class has the pattern '${pattern}' already` });
      else this.#declare(provided, pattern, { ...preset[pattern], ...options }, declarations, mistakes);
    }
    return classes;
  }

  async subscribing(connection: Connection, match: ChannelMatch): Promise<unknown> {
    const hook = this.#hooks.get(match.definition.pattern)?.subscribe;
    if (hook !== undefined) return this.#run(hook, connection, undefined, match);
    if (match.definition.subscribe) return undefined;
    throw new RealtimeException('forbidden', 'The channel takes no subscribers');
  }

  async publishing(connection: Connection, match: ChannelMatch, event: string, data: unknown): Promise<unknown> {
    const hooks = this.#hooks.get(match.definition.pattern)?.publish;
    const hook = hooks?.get(event) ?? hooks?.get(undefined);
    if (hook !== undefined) return this.#run(hook, connection, data, match);
    if (match.definition.publish) return data ?? null;
    throw new RealtimeException('forbidden', 'The channel does not take this event');
  }

  async unsubscribed(connection: Connection, match: ChannelMatch, reason: LeaveReason): Promise<void> {
    const hook = this.#hooks.get(match.definition.pattern)?.unsubscribe;
    if (hook === undefined) return;
    try {
      await hook.run(connection, reason, match);
    } catch (error) {
      this.logger.error(`@OnUnsubscribe of '${match.definition.pattern}' failed`, stackOf(error));
    }
  }

  async #run(hook: ChannelHook, connection: Connection, data: unknown, match: ChannelMatch): Promise<unknown> {
    try {
      return await hook.run(connection, data, match);
    } catch (error) {
      const { code, message, details, retryAfterMs } = describeError(error);
      const exception = new RealtimeException(code, message, details);
      if (retryAfterMs !== undefined) exception.retryAfterMs = retryAfterMs;
      throw exception;
    }
  }

  #declare(
    provided: ProvidedClass,
    pattern: string,
    options: ChannelOptions,
    declarations: Declarations,
    mistakes: Mistake[],
  ): void {
    const path = provided.metatype.name;
    const definition = resolveDefinition(pattern, options);
    const tie = declarations.declare(definition);
    if (tie !== undefined) {
      mistakes.push({
        path,
        message: `'${pattern}' matches the same channels as '${tie}', and neither is more literal`,
      });
      return;
    }
    const hooks: Hooks = { publish: new Map() };
    for (const [method, hook] of hooksOf(provided)) {
      const run = new ChannelHook(provided, method, this.creator, this.moduleRef);
      const taken = hook.kind === 'publish' ? hooks.publish.has(hook.event) : hooks[hook.kind] !== undefined;
      if (taken) mistakes.push({ path: `${path}.${method}`, message: 'another method of the class has the same hook' });
      else if (hook.kind === 'publish') hooks.publish.set(hook.event, run);
      else hooks[hook.kind] = run;
      this.#inspect(provided, method, pattern, hook);
      if (hook.kind === 'publish' && hook.event?.startsWith('$') === true) {
        mistakes.push({ path: `${path}.${method}`, message: `'${hook.event}' starts with "$", which is reserved` });
      }
    }
    this.#hooks.set(pattern, hooks);
  }

  /** Tells Nest's graph of the application what a hook is the entry of, as Nest does for routes and events. */
  #inspect({ metatype, wrapper }: ProvidedClass, methodName: string, key: string, hook: ChannelHookMetadata): void {
    const { id: classNodeId } = wrapper;
    const id = `${classNodeId}_${methodName}`;
    const metadata = { key, ...hook };
    this.graph.insertEntrypoint(
      { id, type: 'channel', methodName, className: metatype.name, classNodeId, metadata },
      classNodeId,
    );
  }
}

/** The hooks of a class, those of its base classes included. */
function hooksOf({ metatype }: ProvidedClass): [method: string, hook: ChannelHookMetadata][] {
  const found = new Map<string, ChannelHookMetadata>();
  let prototype = metatype.prototype as Record<string, unknown> | null;
  while (prototype !== null && prototype !== Object.prototype) {
    for (const name of Object.getOwnPropertyNames(prototype)) {
      const method = Object.getOwnPropertyDescriptor(prototype, name)?.value as unknown;
      if (name === 'constructor' || typeof method !== 'function' || found.has(name)) continue;
      const hook = Reflect.getMetadata(CHANNEL_HOOK, method) as ChannelHookMetadata | undefined;
      if (hook !== undefined) found.set(name, hook);
    }
    prototype = Object.getPrototypeOf(prototype) as Record<string, unknown> | null;
  }
  return [...found];
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : 'a value that is no Error';
}
