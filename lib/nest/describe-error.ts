import { HttpException, IntrinsicException, Logger } from '@nestjs/common';
import { toJson } from '../protocol/encode.js';
import { ERRORS, isRealtimeException, type ErrorBody, type ErrorCode } from '../protocol/errors.js';

const logger = new Logger('Realtime');

/** What Nest throws for a guard that said no to a message. */
const FORBIDDEN_MESSAGE = 'Forbidden resource';
const HTTP_CODES: Readonly<Record<number, ErrorCode>> = {
  400: 'invalid',
  401: 'unauthenticated',
  403: 'forbidden',
  404: 'not_available',
  413: 'invalid',
  422: 'invalid',
  429: 'rate_limited',
};

/**
 * The `error` that a peer gets for something thrown by the application: a `RealtimeException` as it is, an
 * `HttpException` by its status, a `WsException` as `rejected` with its text. Anything else, and every status from 500
 * up, is logged and told as `internal` without a word of it. Never repeats what the peer sent, and never throws.
 */
export function describeError(error: unknown): ErrorBody {
  const body = translate(error);
  const retryAfterMs = body.retryAfterMs ?? (error as { retryAfterMs?: unknown } | null | undefined)?.retryAfterMs;
  return {
    code: body.code,
    message: body.message,
    ...(isJson(body.details) ? { details: body.details } : {}),
    ...(typeof retryAfterMs === 'number' ? { retryAfterMs } : {}),
  };
}

function translate(error: unknown): ErrorBody {
  if (isRealtimeException(error)) return error.toBody();
  if (error instanceof HttpException) return describeHttp(error);
  if (isWsException(error)) return describeWs(error);
  return unexpected(error);
}

function unexpected(error: unknown): ErrorBody {
  if (!(error instanceof IntrinsicException)) {
    const text = error instanceof Error ? error : new Error('A value that is no Error was thrown');
    logger.error(text.message, text.stack);
  }
  return { code: 'internal', message: ERRORS.internal.message };
}

function describeHttp(error: HttpException): ErrorBody {
  const status = error.getStatus();
  if (status >= 500) return unexpected(error);
  const response = error.getResponse();
  if (typeof response === 'string') return withStatus(status, response, undefined);
  const { message, error: _name, statusCode: _status, ...rest } = response as Record<string, unknown>;
  const details = Object.keys(rest).length === 0 ? undefined : withoutPeerData(rest);
  if (Array.isArray(message)) return withStatus(status, undefined, withoutPeerData(message));
  return withStatus(status, typeof message === 'string' ? message : undefined, details);
}

/** A status that the table has no error for is told in the details. */
function withStatus(status: number, message: string | undefined, details: unknown): ErrorBody {
  const code = HTTP_CODES[status];
  if (code !== undefined) return { code, message: message ?? ERRORS[code].message, details };
  const told =
    details === undefined
      ? { status }
      : { status, ...(Array.isArray(details) ? { issues: details } : (details as object)) };
  return { code: 'rejected', message: message ?? ERRORS.rejected.message, details: told };
}

function describeWs(error: Error & { getError(): unknown }): ErrorBody {
  const given = error.getError();
  if (given === FORBIDDEN_MESSAGE) return { code: 'forbidden', message: ERRORS.forbidden.message };
  if (Array.isArray(given))
    return { code: 'invalid', message: ERRORS.invalid.message, details: withoutPeerData(given) };
  if (typeof given !== 'object' || given === null) return { code: 'rejected', message: error.message };
  const { message, cause: _cause, ...rest } = given as Record<string, unknown>;
  return {
    code: 'rejected',
    message: typeof message === 'string' ? message : ERRORS.rejected.message,
    details: Object.keys(rest).length === 0 ? undefined : withoutPeerData(rest),
  };
}

/** By its shape: the application's copy of @nestjs/websockets need not be ours. */
function isWsException(error: unknown): error is Error & { getError(): unknown } {
  return error instanceof Error && typeof (error as { getError?: unknown }).getError === 'function';
}

/** class-validator's errors carry the object that was validated, and the value: what the peer sent. */
function withoutPeerData(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutPeerData);
  if (typeof value !== 'object' || value === null) return value;
  const { target: _target, value: _value, ...rest } = value as Record<string, unknown>;
  if (!('property' in rest) || !('constraints' in rest || 'children' in rest)) return value;
  const children = withoutPeerData(rest.children ?? []) as unknown[];
  return {
    property: rest.property,
    ...(rest.constraints === undefined ? {} : { constraints: rest.constraints }),
    ...(children.length === 0 ? {} : { children }),
  };
}

function isJson(details: unknown): boolean {
  if (details === undefined) return false;
  try {
    toJson(details);
    return true;
  } catch {
    return false;
  }
}
