import type { Position } from '../../protocol/position.js';
import type { StoredItem } from './broker.js';
import type { AdmittedConnection } from './transport.js';

/** Gives publications to peers that have passed the handshake. */
export interface PayloadOffice {
  /**
   * The publication that follows a position. Rejects with what a subscription is refused with, and with `position_lost`
   * where nothing is stored that follows it.
   */
  payloadFor(connection: AdmittedConnection, channel: string, since: Position): Promise<StoredItem>;
}
