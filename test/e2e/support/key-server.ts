import type { KeyObject } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Serves a JSON Web Key Set that a test changes. */
export class KeyServer {
  /** The keys served, by their ids. */
  keys: Readonly<Record<string, KeyObject>> = {};
  /** How often it was asked. */
  asked = 0;
  /** What it answers. 200: the keys; 0: nothing, the connection is cut. */
  status = 200;
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => {
      this.asked++;
      if (this.status === 0) request.socket.destroy();
      else if (this.status !== 200) response.writeHead(this.status).end();
      else response.setHeader('Content-Type', 'application/json').end(JSON.stringify({ keys: this.#set() }));
    });
  }

  static async open(): Promise<KeyServer> {
    const server = new KeyServer();
    server.#server.listen(0, '127.0.0.1');
    await once(server.#server, 'listening');
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/keys?tenant=1`;
  }

  async close(): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, 'close');
  }

  #set(): object[] {
    return Object.entries(this.keys).map(([kid, key]) => ({ ...key.export({ format: 'jwk' }), kid, use: 'sig' }));
  }
}
