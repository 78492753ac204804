import type { TicketOffice } from '../hub/ports/ticket.js';
import type { AdmittedConnection, RequestExchange, Transport } from '../hub/ports/transport.js';
import { CLOSE_NORMAL } from '../protocol/errors.js';
import { leaveBody } from './departure.js';

/**
 * Where peers get tickets: `POST {path}/ticket`, with the handshake of every wire, answers `{ ticket, expiresAt }`. It
 * makes no link: the connection that was admitted is over before its hooks would run.
 */
export class TicketTransport implements Transport {
  readonly name = 'ticket';
  readonly subpath = 'ticket';
  readonly methods = ['POST'];
  /** A ticket for a ticket would never end. */
  readonly takesTickets = false;

  constructor(private readonly office: TicketOffice) {}

  open(): void {
    return;
  }

  async request({ response }: RequestExchange, connection: AdmittedConnection): Promise<void> {
    const issued = await this.office.ticketFor(connection);
    connection.ended(CLOSE_NORMAL, '');
    const body = JSON.stringify(issued);
    response.statusCode = 200;
    response.setHeader('Content-Type', 'application/json; charset=utf-8');
    response.setHeader('Content-Length', Buffer.byteLength(body));
    response.setHeader('Cache-Control', 'no-store');
    response.setHeader('X-Content-Type-Options', 'nosniff');
    leaveBody(response);
    response.end(body);
  }

  close(): void {
    return;
  }
}
