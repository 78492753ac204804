import type { IncomingMessage, ServerResponse } from 'node:http';
import { isUtf8 } from 'node:buffer';
import { RefusalError, type Reception } from '../hub/ports/transport.js';
import { RealtimeException } from '../protocol/errors.js';
import { isTooDeep } from '../protocol/frames.js';
import { leaveBody } from './departure.js';
import { refusalWith } from './refusal.js';

/** How long a body may take to arrive, ms. */
const TIMEOUT_MS = 10_000;
/** How deep a body may be nested: its frames are looked at one by one, and what is far too deep can't be. */
const MAX_DEPTH = 1_000;

/**
 * Reads a request's body as a JSON object, of at most so many bytes. Rejects with a `RealtimeException` that tells what
 * is wrong: 413, 415, or 400; 408 where it takes too long. Body parsers of the application have not seen the request.
 */
export async function readJson(request: IncomingMessage, maxBytes: number): Promise<Record<string, unknown>> {
  const type = request.headers['content-type']?.split(';', 1)[0]?.trim().toLowerCase();
  if (type !== 'application/json') {
    throw new RefusalError(refusalWith('invalid', { status: 415, message: 'The body is application/json' }));
  }
  const encoding = request.headers['content-encoding'] ?? 'identity';
  if (encoding.toLowerCase() !== 'identity') {
    throw new RefusalError(refusalWith('invalid', { status: 415, message: 'The body is not compressed' }));
  }
  if (Number(request.headers['content-length'] ?? 0) > maxBytes) throw tooLarge(maxBytes);
  const bytes = await readBytes(request, maxBytes);
  if (!isUtf8(bytes)) throw new RealtimeException('invalid', 'The body is not UTF-8');
  const text = bytes.toString();
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new RealtimeException('invalid', 'The body is not JSON');
  }
  if (isTooDeep(text, MAX_DEPTH)) throw new RealtimeException('invalid', 'The body is nested too deep');
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new RealtimeException('invalid', 'The body is an object');
}

/** Reads a request's body as {@link readJson} does, in a place of its own. */
export async function receiveJson(
  request: IncomingMessage,
  reception: Pick<Reception, 'begin'>,
  maxBytes: number,
): Promise<Record<string, unknown>> {
  const release = reception.begin();
  try {
    return await readJson(request, maxBytes);
  } finally {
    release();
  }
}

/** Answers a request with JSON text. */
export function answerJson(response: ServerResponse, status: number, chunks: readonly (Buffer | string)[]): void {
  if (response.headersSent || response.destroyed) return;
  const body = Buffer.concat(chunks.map((chunk) => (typeof chunk === 'string' ? Buffer.from(chunk) : chunk)));
  response.statusCode = status;
  response.setHeader('Content-Type', 'application/json; charset=utf-8');
  response.setHeader('Content-Length', body.length);
  response.setHeader('Cache-Control', 'no-store');
  response.setHeader('X-Content-Type-Options', 'nosniff');
  if (!response.req.complete) leaveBody(response);
  response.end(body);
}

function readBytes(request: IncomingMessage, maxBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const end = (act: () => void): void => {
      clearTimeout(timer);
      request.off('data', take);
      request.off('end', done);
      request.off('close', broke);
      request.off('error', broke);
      act();
    };
    const take = (chunk: Buffer): void => {
      size += chunk.length;
      if (size <= maxBytes) chunks.push(chunk);
      else end(() => reject(tooLarge(maxBytes)));
    };
    const done = (): void => end(() => resolve(Buffer.concat(chunks)));
    const broke = (): void => end(() => reject(new RealtimeException('gone')));
    const timer = setTimeout(() => end(() => reject(tooSlow())), TIMEOUT_MS).unref();
    request.on('data', take);
    request.on('end', done);
    request.on('close', broke);
    request.on('error', broke);
  });
}

function tooLarge(maxBytes: number): RealtimeException {
  return new RealtimeException('frame_too_large', `The body is at most ${maxBytes} bytes`);
}

function tooSlow(): RealtimeException {
  return new RefusalError(refusalWith('invalid', { status: 408, message: 'The body took too long to arrive' }));
}
