import type { ArgumentsHost, ExceptionFilter } from '@nestjs/common';
import { BaseRealtimeExceptionFilter } from './exception.filter.js';
import { gatewayCallOf } from './gateway-call.js';
import { hookPassOf } from './gateway-hooks.js';
import { FILTERS, metadataList, methodsOf } from './gateway-metadata.js';
import type { ProvidedClass } from './provided-classes.js';

const LAST_RESORT = Symbol.for('nestjs-realtime:last-resort');
const WATCHED = Symbol.for('nestjs-realtime:watched-filter');

type Catch = ExceptionFilter['catch'];

/** One for all gateways of the process: it holds nothing, and finds what it answers in the arguments. */
const lastResort = Object.assign(new BaseRealtimeExceptionFilter(), { [LAST_RESORT]: true });

/**
 * Prepares the filters of a gateway: one of ours stands first in its class's list, which is the lowest priority, and
 * its own filters tell the call that they took an exception, since Nest looks neither at their promises nor at whether
 * the peer was answered.
 */
export function prepareFilters({ metatype, module }: ProvidedClass): void {
  const ofClass = metadataList(FILTERS, metatype);
  const own = [metatype, ...methodsOf(metatype).values()].flatMap((target) => metadataList(FILTERS, target));
  for (const filter of own) {
    if (isLastResort(filter)) continue;
    if (typeof filter !== 'function') {
      watch(filter);
      continue;
    }
    const wrapper = module.injectables.get(filter as never);
    if (wrapper?.isDependencyTreeStatic() === true && !wrapper.isTransient) watch(wrapper.instance);
    else watch(filter.prototype);
    watch(filter); // a static `catch`
  }
  if (!isLastResort(ofClass[0])) Reflect.defineMetadata(FILTERS, [lastResort, ...ofClass], metatype);
}

function isLastResort(filter: unknown): boolean {
  return typeof filter === 'object' && filter !== null && LAST_RESORT in filter;
}

function watch(filter: unknown): void {
  const owner = filter as { catch?: Catch } | null | undefined;
  const original = owner?.catch;
  if (owner === null || owner === undefined || typeof original !== 'function') return;
  if (Object.hasOwn(original, WATCHED) || !Object.isExtensible(owner)) return;
  const watched: Catch = function (this: unknown, exception: unknown, host: ArgumentsHost): unknown {
    const call = gatewayCallOf(host);
    const outcome: unknown = original.call(this as ExceptionFilter, exception, host);
    if (call !== undefined) return call.filtered(outcome, exception);
    hookPassOf(host.getArgByIndex(0))?.failed(exception);
    return outcome;
  };
  Object.defineProperty(watched, WATCHED, { value: true });
  Object.defineProperty(owner, 'catch', { value: watched, writable: true, configurable: true });
}
