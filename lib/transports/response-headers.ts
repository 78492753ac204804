import type { ServerResponse } from 'node:http';
import type { ResponseHeaders } from '../hub/ports/transport.js';

/** Adds what guards set to a response; what it has already stays, and one that has begun. */
export function addHeaders(response: ServerResponse, headers: ResponseHeaders = {}): void {
  if (response.headersSent) return;
  for (const [name, value] of Object.entries(headers)) if (!response.hasHeader(name)) response.setHeader(name, value);
}
