import { sseTransport } from './sse.transport.js';
import type { ClientTransport } from './transport.js';

/** The transports over HTTP: in a file of their own, which a client loads when it needs one. */
export function httpTransport(fetchLike: typeof fetch): ClientTransport {
  return sseTransport(fetchLike);
}
