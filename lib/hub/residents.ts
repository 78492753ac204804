import { CLOSE_NORMAL } from '../protocol/errors.js';
import type { DisconnectData } from '../protocol/frames.js';
import type { Connection } from './connection.js';
import type { Endpoint } from './endpoint.js';
import type { Expiry } from './expiry.js';
import type { RecordConnection } from './record-connection.js';
import type { Users } from './users.js';

/** Where the connections of a node are found. */
export interface Residence {
  readonly connections: Map<string, Connection>;
  readonly users: Users;
  readonly expiry: Expiry;
  /** Where a connection arrived. */
  endpointOf(connection: Connection): Endpoint | undefined;
}

/** The objects that this node has of connections with records: of those linked here, and of those that were lately. */
export class Residents {
  readonly #byId = new Map<string, RecordConnection>();

  constructor(private readonly residence: Residence) {}

  get size(): number {
    return this.#byId.size;
  }

  get(id: string): RecordConnection | undefined {
    return this.#byId.get(id);
  }

  add(connection: RecordConnection): void {
    this.#byId.set(connection.id, connection);
  }

  [Symbol.iterator](): Iterator<RecordConnection> {
    return this.#byId.values();
  }

  /** The newest link of a connection is here: it is among those that this node tells something. */
  link(connection: RecordConnection): void {
    const { connections, users, expiry } = this.residence;
    if (connection.over) return;
    connections.set(connection.id, connection);
    this.residence.endpointOf(connection)?.clients.add(connection);
    users.add(connection);
    expiry.watch(connection);
  }

  /** It is another node's from now on, or over. */
  unlink(connection: RecordConnection): void {
    const { connections, users, expiry } = this.residence;
    if (connections.get(connection.id) !== connection) return;
    connections.delete(connection.id);
    this.residence.endpointOf(connection)?.clients.delete(connection);
    users.delete(connection);
    expiry.forget(connection);
  }

  /** Forgets what this node has of a connection, which is over where it is told how. */
  retire(connection: RecordConnection, over?: DisconnectData): void {
    const link = connection.current;
    if (over === undefined) connection.save();
    connection.retire(over?.code ?? CLOSE_NORMAL, over?.reason ?? '');
    if (over === undefined) link?.abandon();
    else link?.finish(over);
    this.unlink(connection);
    if (this.#byId.get(connection.id) === connection) this.#byId.delete(connection.id);
  }
}
