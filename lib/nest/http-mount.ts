import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { HttpServer } from '@nestjs/common';
import { refusalWith, refuseUpgrade } from '../transports/refusal.js';
import { ignoreOtherUpgrades } from './other-upgrades.js';
import { SilentSockets } from './silent-sockets.js';

/** What serves the endpoints. False: the request is not for one of them. */
export interface Routes {
  handleRequest(request: IncomingMessage, response: ServerResponse): boolean;
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): boolean;
}

type RequestListener = (this: Server, request: IncomingMessage, response: ServerResponse) => void;

interface FastifyLike {
  addHook(
    name: 'onRequest',
    hook: (request: { raw: IncomingMessage }, reply: { raw: ServerResponse; hijack(): void }, done: () => void) => void,
  ): void;
}

/**
 * Puts the endpoints in front of an application's body parsers, middleware and routes. Fastify gets a hook, as it may
 * listen with more than one server; elsewhere the server's own listener is stepped in front of. Upgrades that are not
 * ours are left to other listeners, and answered 404 where there is none.
 * @returns what takes the listeners away again, and destroys the sockets on which nothing came.
 */
export function mountRoutes(adapter: HttpServer, routes: Routes): () => void {
  const server = adapter.getHttpServer() as Server;
  const silent = new SilentSockets(server);
  const first: Routes = {
    handleRequest(request, response) {
      silent.asked(request);
      return routes.handleRequest(request, response);
    },
    handleUpgrade(request, socket, head) {
      silent.asked(request);
      return routes.handleUpgrade(request, socket, head);
    },
  };
  const unmountRequests = adapter.getType() === 'fastify' ? hook(adapter, first) : stepInFront(server, first);
  const unmountUpgrades = listenToUpgrades(server, first);
  return () => {
    unmountRequests();
    unmountUpgrades();
    silent.close();
  };
}

/** Serves the endpoints, and nothing else, on a server of our own. */
export function stepInFront(server: Server, routes: Routes): () => void {
  const others = server.listeners('request') as RequestListener[];
  const listener: RequestListener = function (request, response) {
    if (routes.handleRequest(request, response)) return;
    for (const other of others) other.call(this, request, response);
  };
  server.removeAllListeners('request');
  server.on('request', listener);
  return () => {
    server.removeListener('request', listener);
    for (const other of others) server.on('request', other);
  };
}

/** Takes the upgrades of the endpoints, in front of other listeners, to which all the rest is left. */
export function listenToUpgrades(server: Server, routes: Routes): () => void {
  const others = ignoreOtherUpgrades(server);
  const listener = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    if (others.serve(request, socket, head)) return;
    const alone = server.listenerCount('upgrade') === 1;
    const shield = alone ? undefined : shieldOf(socket);
    if (routes.handleUpgrade(request, socket, head)) {
      shield?.();
      return;
    }
    if (!alone) return;
    socket.on('error', () => socket.destroy());
    refuseUpgrade(socket, refusalWith('not_available'));
  };
  server.prependListener('upgrade', listener);
  return () => {
    server.removeListener('upgrade', listener);
    others.stop();
  };
}

const SHIELDED = ['write', 'end', 'destroy', 'destroySoon'];

/**
 * Node calls every listener for every upgrade, and many refuse or destroy what is not of their path: servers of `ws`
 * with a `path` do. Returns what keeps the others from a socket until all of them were called.
 */
function shieldOf(socket: Duplex): () => void {
  const own = SHIELDED.map((name) => [name, Object.getOwnPropertyDescriptor(socket, name)] as const);
  let raised = false;
  // Queued before the handshake begins, so that it runs before anything that the handshake waits for.
  queueMicrotask(() => {
    if (!raised) return;
    for (const [name, descriptor] of own) {
      Reflect.deleteProperty(socket, name);
      if (descriptor !== undefined) Object.defineProperty(socket, name, descriptor);
    }
  });
  return () => {
    raised = true;
    for (const name of SHIELDED) Object.defineProperty(socket, name, { configurable: true, value: () => socket });
  };
}

function hook(adapter: HttpServer, routes: Routes): () => void {
  let mounted = true;
  const instance = adapter.getInstance() as FastifyLike;
  instance.addHook('onRequest', (request, reply, done) => {
    if (mounted && routes.handleRequest(request.raw, reply.raw)) reply.hijack();
    else done();
  });
  return () => {
    mounted = false;
  };
}
