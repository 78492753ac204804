import type { AdmittedConnection } from './transport.js';

/** A ticket, and until when it lets its holder in, ms since 1970. */
export interface IssuedTicket {
  readonly ticket: string;
  readonly expiresAt: number;
}

/** Gives tickets to peers that have passed the handshake. */
export interface TicketOffice {
  /** Issues a ticket for a connection's identity. Rejects with `unauthenticated` where it has none. */
  ticketFor(connection: AdmittedConnection): Promise<IssuedTicket>;
}
