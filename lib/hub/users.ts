import type { Connection } from './connection.js';

const NONE: ReadonlySet<Connection> = new Set();

/** The connections of each user on this node, those too whose connection hooks still run. */
export class Users {
  readonly #connections = new Map<string, Set<Connection>>();

  of(user: string): ReadonlySet<Connection> {
    return this.#connections.get(user) ?? NONE;
  }

  add(connection: Connection): void {
    const { user } = connection;
    if (user === undefined) return;
    const connections = this.#connections.get(user.id);
    if (connections === undefined) this.#connections.set(user.id, new Set([connection]));
    else connections.add(connection);
  }

  delete(connection: Connection): void {
    const { user } = connection;
    if (user === undefined) return;
    const connections = this.#connections.get(user.id);
    connections?.delete(connection);
    if (connections?.size === 0) this.#connections.delete(user.id);
  }
}
