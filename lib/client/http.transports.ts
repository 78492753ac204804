import { fetchPayload } from './payload.js';
import { pollTransport } from './poll.transport.js';
import { sseTransport } from './sse.transport.js';
import type { ClientTransport } from './transport.js';

/** The transports over HTTP: in a file of their own, which a client loads when it needs one. */
export function httpTransport(
  name: 'sse' | 'long-polling',
  fetchLike: typeof fetch,
  receiveOnly = false,
): ClientTransport {
  return name === 'sse' ? sseTransport(fetchLike, receiveOnly) : pollTransport(fetchLike);
}

/** See {@link fetchPayload}. */
export function payloadOverHttp(...args: Parameters<typeof fetchPayload>): Promise<unknown> {
  return fetchPayload(...args);
}
