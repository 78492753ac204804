import { peerRow, isErrorCode, CodedException, type ErrorBody } from '../protocol/errors.js';
import type { LinkEnd } from './transport.js';

/** The exception for an `error` from the hub. A code that this version does not know stands as `internal`. */
export function exceptionOf(body: Partial<ErrorBody> | undefined): CodedException {
  const code = body?.code;
  const known = isErrorCode(code);
  const error = new CodedException(known ? code : 'internal', body?.message ?? String(code), body?.details);
  if (body?.retryAfterMs !== undefined) error.retryAfterMs = body.retryAfterMs;
  return error;
}

/** Anything thrown, as an Error. */
export function errorOf(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}

/** How a link ends by an error: as the answer to `$resume`, or as the refusal of a request. */
export function endOf(error: ErrorBody): LinkEnd {
  const { code, retryAfterMs } = error;
  const row = isErrorCode(code) ? peerRow(code) : undefined;
  return { code: row?.close ?? (row?.retry === 'no' ? 4400 : 4500), reason: code, error, retryAfterMs };
}

/** The exception for a link that ended for good. */
export function exceptionOfEnd({ code, reason, error }: LinkEnd): CodedException {
  const name = isErrorCode(reason) ? reason : code === 4401 ? 'unauthenticated' : 'gone';
  return exceptionOf(error ?? { code: name, message: `Closed with ${code} ${reason}` });
}
