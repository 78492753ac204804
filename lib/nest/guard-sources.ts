import { HttpException, type CanActivate, type Type } from '@nestjs/common';
import { ContextIdFactory, type ModuleRef } from '@nestjs/core';
import { RefusalError } from '../hub/ports/transport.js';
import { errorRow, ERRORS, type ErrorBody } from '../protocol/errors.js';
import { describeError } from './describe-error.js';
import { askGuard } from './gateway-guard.js';
import type { HandshakeContext, HandshakeRequest, HandshakeResponse } from './gateway-handshake.js';

export type Guard = Type<CanActivate> | CanActivate;
/** Makes or finds the guard for one handshake. */
export type GuardSource = (request: HandshakeRequest) => CanActivate | Promise<CanActivate>;

/** A guard of the application where it has one; else one made for the handshake, with what is global. */
export async function guardSourceOf(moduleRef: ModuleRef, guard: Guard): Promise<GuardSource> {
  if (typeof guard !== 'function') return () => guard;
  try {
    const known = moduleRef.get<CanActivate>(guard, { strict: false });
    return () => known;
  } catch {
    // request-scoped, or in no module
  }
  const scoped = await moduleRef.resolve(guard, undefined, { strict: false }).catch(() => undefined);
  if (scoped !== undefined) return (request) => resolveScoped(moduleRef, guard, request, false);
  const made = await moduleRef.create(guard);
  await (made as { onModuleInit?: () => unknown }).onModuleInit?.();
  return () => made;
}

/** Makes a guard for one request. */
export function resolveScoped(
  moduleRef: ModuleRef,
  guard: Type<CanActivate>,
  request: object,
  strict: boolean,
): Promise<CanActivate> {
  const contextId = ContextIdFactory.create();
  moduleRef.registerRequestByContextId(request, contextId);
  return moduleRef.resolve(guard, contextId, { strict });
}

/** Asks a guard. Rejects with a `RefusalError`, with the status that it chose, where it says no. */
export async function askGuardSource(
  source: GuardSource,
  request: HandshakeRequest,
  response: HandshakeResponse,
  context: HandshakeContext,
): Promise<void> {
  let error: unknown;
  try {
    if (await askGuard(await source(request), context)) return;
    error = undefined;
  } catch (thrown) {
    error = thrown ?? new Error('A guard threw nothing');
  }
  throw refusalOf(error, response);
}

/** `undefined` is a guard that said no. */
function refusalOf(error: unknown, response: HandshakeResponse): RefusalError {
  const told: ErrorBody =
    error === undefined ? { code: 'forbidden', message: ERRORS.forbidden.message } : describeError(error);
  const status = error instanceof HttpException ? error.getStatus() : (errorRow(told.code).http ?? 403);
  const seconds = Number(response.getHeader('retry-after'));
  const retryAfterMs = told.retryAfterMs ?? (seconds > 0 ? seconds * 1000 : undefined);
  const body = retryAfterMs === undefined ? told : { ...told, retryAfterMs };
  return new RefusalError({ status, error: body, headers: response.headers });
}
