import type { PayloadOffice } from '../hub/ports/payload.js';
import type { AdmittedConnection, RequestExchange, Transport } from '../hub/ports/transport.js';
import { CLOSE_NORMAL, RealtimeException } from '../protocol/errors.js';
import { parsePosition } from '../protocol/position.js';
import { leaveBody } from './departure.js';

/** For how long a peer's cache keeps what never changes, s. */
const MAX_AGE_S = 3_600;

/**
 * Where peers get what travels as a reference: `GET {path}/payload?channel=&since=`, with the handshake of every wire and
 * with what a subscription asks of them, answers the data of the publication that follows the position. It makes no link:
 * the connection that was admitted is over before its hooks would run.
 */
export class PayloadTransport implements Transport {
  readonly name = 'payload';
  readonly subpath = 'payload';
  readonly methods = ['GET'];
  readonly takesTickets = false;
  readonly passing = true;

  constructor(private readonly office: PayloadOffice) {}

  open(): void {
    return;
  }

  async request({ request, response, query }: RequestExchange, connection: AdmittedConnection): Promise<void> {
    const channel = query.get('channel') ?? '';
    const since = query.get('since') ?? '';
    if (parsePosition(since) === undefined) throw new RealtimeException('invalid', '"since" is a position');
    const { data, offset, tag } = await this.office.payloadFor(connection, channel, since);
    connection.ended(CLOSE_NORMAL, '');
    const etag = `"${offset}-${tag}"`;
    response.setHeader('ETag', etag);
    response.setHeader('Cache-Control', `private, max-age=${MAX_AGE_S}, immutable`);
    const vary = response.getHeader('Vary');
    response.setHeader('Vary', [...(vary === undefined ? [] : [String(vary)]), 'Authorization', 'Cookie'].join(', '));
    response.setHeader('X-Content-Type-Options', 'nosniff');
    leaveBody(response);
    if (request.headers['if-none-match'] === etag) {
      response.statusCode = 304;
      response.end();
      return;
    }
    response.statusCode = 200;
    response.setHeader('Content-Type', 'application/json; charset=utf-8');
    response.setHeader('Content-Length', Buffer.byteLength(data));
    response.end(data);
  }

  close(): void {
    return;
  }
}
