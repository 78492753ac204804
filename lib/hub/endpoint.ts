import { encodeEvent } from '../protocol/encode.js';
import type { Connection } from './connection.js';
import { SharedFrame } from './shared-frame.js';

/** One (port, path) where peers arrive: what `@WebSocketServer()` gives. */
export class Endpoint {
  /** The open connections of this node that arrived here. */
  readonly clients = new Set<Connection>();
  readonly #listeners: ((connection: Connection) => void)[] = [];

  constructor(
    /** The path, with parameters such as `/rooms/:id`. */
    readonly path: string,
    /** The port of an endpoint that has a server of its own; 0: the application's. */
    readonly port: number,
  ) {}

  /** @internal What arrivals name it by. */
  get key(): string {
    return `${this.port}:${this.path}`;
  }

  /** Sends an event to every connection of this endpoint on this node. For all nodes use a channel. */
  emit(event: string, data?: unknown): void {
    const frame = new SharedFrame(encodeEvent(event, data));
    for (const connection of this.clients) connection.deliver(frame);
  }

  /** Calls a function for each connection once its hooks have run. */
  on(event: 'connection', listener: (connection: Connection) => void): this {
    if (event === 'connection') this.#listeners.push(listener);
    return this;
  }

  /** @internal */
  enter(connection: Connection): void {
    this.clients.add(connection);
    for (const listener of this.#listeners) listener(connection);
  }
}
