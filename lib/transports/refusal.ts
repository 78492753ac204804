import { STATUS_CODES, validateHeaderValue, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Refusal, RefusalError, ResponseHeaders } from '../hub/ports/transport.js';
import { errorRow, ERRORS, isRealtimeException, type ErrorCode } from '../protocol/errors.js';
import { leaveBody } from './departure.js';

/** How long a refused peer may take to read why, ms. */
const LINGER_MS = 1_000;

/** What is told of whatever was thrown; `unexpected` marks what no peer caused. */
export function refusalOf(error: unknown): { refusal: Refusal; unexpected: boolean } {
  if (!isRealtimeException(error)) {
    return { refusal: refusalWith('internal'), unexpected: true };
  }
  const own = (error as Partial<RefusalError>).refusal;
  if (own !== undefined) return { refusal: { ...own, status: sendable(own.status) }, unexpected: false };
  return { refusal: { status: statusOf(error.code), error: error.toBody() }, unexpected: false };
}

/** A refusal with an error of the table. */
export function refusalWith(
  code: ErrorCode,
  {
    status = statusOf(code),
    message = ERRORS[code].message,
    headers,
  }: { status?: number; message?: string; headers?: Record<string, string> } = {},
): Refusal {
  return { status, error: { code, message }, ...(headers === undefined ? {} : { headers }) };
}

/** Answers a request with a refusal; nothing happens where the response has begun, or the peer is gone. */
export function refuseRequest(response: ServerResponse, refusal: Refusal): void {
  if (response.headersSent || response.writableEnded || response.destroyed) return;
  const body = bodyOf(refusal);
  response.statusCode = refusal.status;
  for (const [name, value] of headersOf(refusal, body)) response.setHeader(name, value);
  leaveBody(response);
  response.end(body);
}

/**
 * Answers an upgrade with a refusal, on the bare socket: the server has let go of it. Never throws; the socket is
 * destroyed once the peer has the answer, or has not read it in time.
 */
export function refuseUpgrade(socket: Duplex, refusal: Refusal, cors: Readonly<Record<string, string>> = {}): void {
  if (socket.destroyed) return;
  const body = bodyOf(refusal);
  const lines = [`HTTP/1.1 ${refusal.status} ${STATUS_CODES[refusal.status] ?? 'Refused'}`, 'Connection: close'];
  lines.push(...headerLines(cors), ...headerLines(Object.fromEntries(headersOf(refusal, body))));
  const timer = setTimeout(() => socket.destroy(), LINGER_MS).unref();
  socket.once('close', () => clearTimeout(timer));
  socket.end(`${lines.join('\r\n')}\r\n\r\n${body}`);
  socket.resume(); // what the peer sent already must be read, or the kernel answers with a reset
}

/** Headers as the lines of a response's head. */
export function headerLines(headers: ResponseHeaders): string[] {
  return Object.entries(headers).flatMap(([name, value]) => [value].flat().map((one) => `${name}: ${one}`));
}

/** Whether a request is of a page's EventSource, which reads nothing but an event stream. */
export function acceptsOnlyEventStream(request: IncomingMessage): boolean {
  const accepted = (request.headers.accept ?? '').split(',').map((range) => range.split(';', 1)[0]!.trim());
  return accepted.every((type) => type.toLowerCase() === 'text/event-stream');
}

function statusOf(code: ErrorCode): number {
  return errorRow(code).http ?? 500;
}

/** A status as it may be sent; what no response can have is told as 500. */
function sendable(status: number): number {
  return Number.isInteger(status) && status >= 200 && status <= 599 ? status : 500;
}

function bodyOf({ error }: Refusal): string {
  try {
    return JSON.stringify({ error });
  } catch {
    return JSON.stringify({ error: { code: error.code, message: error.message } }); // details that JSON cannot hold
  }
}

/** The headers of a refusal: its own first, which may not be those that frame the body. */
function headersOf({ status, error, headers = {} }: Refusal, body: string): Map<string, string | string[]> {
  const all = new Map<string, string | string[]>();
  for (const [name, value] of Object.entries(headers)) {
    if (isHeader(name, value)) all.set(name.toLowerCase(), typeof value === 'string' ? value : [...value]);
  }
  if (status === 401 && !all.has('www-authenticate')) all.set('www-authenticate', challengeOf(error.code));
  if (error.retryAfterMs !== undefined && !all.has('retry-after')) {
    all.set('retry-after', String(Math.ceil(error.retryAfterMs / 1000)));
  }
  for (const name of ['connection', 'transfer-encoding']) all.delete(name);
  return new Map([
    ...all,
    ['content-type', 'application/json; charset=utf-8'],
    ['content-length', String(Buffer.byteLength(body))],
    ['cache-control', 'no-store'],
    ['x-content-type-options', 'nosniff'],
  ]);
}

function challengeOf(code: ErrorCode): string {
  return code === 'token_expired' || code === 'revoked' ? 'Bearer error="invalid_token"' : 'Bearer';
}

function isHeader(name: string, value: string | readonly string[]): boolean {
  if (!/^[\w!#$%&'*+.^`|~-]+$/.test(name)) return false;
  try {
    for (const one of [value].flat()) validateHeaderValue(name, one);
    return true;
  } catch {
    return false;
  }
}
