import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Handshake, Visit } from '../hub/ports/arrival.js';
import type {
  AdmittedConnection,
  Refusal,
  RequestExchange,
  Transport,
  UpgradeExchange,
} from '../hub/ports/transport.js';
import { encodeEvent } from '../protocol/encode.js';
import { errorRow, retryAfterClose, RealtimeException } from '../protocol/errors.js';
import { whenOver } from './departure.js';
import { refusalOf, refusalWith, refuseRequest, refuseUpgrade } from './refusal.js';
import { addHeaders } from './response-headers.js';
import { queryOf, Routes, type RouteMatch } from './routes.js';

/** What a router is made of. */
export interface RouterOptions {
  readonly handshake: Handshake;
  /** Opened already. */
  readonly transports: readonly Transport[];
  /**
   * How an upgrade is refused: `http` with a status, which pages cannot read; `close` by accepting it and closing with
   * a code of the table. @defaultValue 'http'
   */
  readonly rejectMode?: 'http' | 'close';
  /** Told of a failure that no peer caused. */
  readonly onError: (error: unknown) => void;
}

/** What was taken out of a request's query. */
type Secrets = Readonly<Record<string, string>>;

const WEBSOCKET_KEY = /^[+/0-9A-Za-z]{22}==$/;
/** Connections without parameters are many, and keep this. */
const NOTHING: Readonly<Record<string, string>> = Object.freeze({});
const PREFLIGHT_MAX_AGE_S = 600;

/**
 * The one handler of all endpoints of a server, in front of the application's own: it matches the path, does the
 * handshake and gives what remains to a transport.
 */
export class RequestRouter {
  readonly #options: RouterOptions;
  readonly #routes = new Routes();
  /** Upgrades in their handshake: the server doesn't know these sockets any more. */
  readonly #arriving = new Set<Duplex>();
  /** Plain requests that have not been served yet: some may be held by what does not end. */
  readonly #asking = new Set<RequestExchange>();

  constructor(options: RouterOptions) {
    this.#options = options;
  }

  /** Serves an endpoint: a path, with parameters such as `/rooms/:id`, and what the transports have below it. */
  endpoint(path: string, key: string): void {
    for (const transport of this.#options.transports) this.#routes.add(path, key, transport);
  }

  /** Serves one path more, below that of an endpoint. */
  route(path: string, key: string, transport: Transport): void {
    this.#routes.add(path, key, transport);
  }

  /** Serves a plain request. False: the path is not ours, the application goes on. */
  handleRequest(request: IncomingMessage, response: ServerResponse): boolean {
    const match = this.#routes.match(request.url);
    if (match === undefined || (match.route.root && !servesRequests(match.route.transport))) return false;
    const secrets = this.#options.handshake.takeSecrets(request);
    this.#serve(match, request, response, secrets).catch(this.#options.onError);
    return true;
  }

  /** Serves an upgrade. False: the path is not ours; where no other listener takes it, answer 404. */
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): boolean {
    const match = this.#routes.match(request.url);
    if (match === undefined) return false;
    const secrets = this.#options.handshake.takeSecrets(request);
    socket.on('error', destroy); // at once: the server has taken its own listener away
    const mistake = upgradeMistake(request, match);
    if (mistake !== undefined) refuseUpgrade(socket, mistake);
    else this.#upgrade(match, { request, socket, head }, secrets).catch(this.#options.onError);
    return true;
  }

  /** Destroys the upgrades that are still in their handshake, and refuses the requests that are not answered. */
  close(): void {
    for (const socket of this.#arriving) socket.destroy();
    for (const exchange of this.#asking) {
      const { response } = exchange;
      if (response.headersSent) continue;
      if (response.req.httpVersionMajor === 1) response.setHeader('Connection', 'close');
      exchange.refuse(this.#describe(this.#options.handshake.draining()));
    }
  }

  async #serve(match: RouteMatch, request: IncomingMessage, response: ServerResponse, secrets: Secrets): Promise<void> {
    const { transport } = match.route;
    const { handshake } = this.#options;
    response.on('error', ignore);
    const exchange = this.#exchange(transport, request, response);
    const cors = handshake.cors(request);
    for (const [name, value] of Object.entries(cors ?? {})) response.setHeader(name, value);
    const mistake = requestMistake(request, match);
    if (request.method === 'OPTIONS' && servesRequests(transport)) {
      if (cors === undefined) exchange.refuse(refusalWith('origin_refused'));
      else answerPreflight(request, response, transport.methods);
    } else if (mistake !== undefined) {
      exchange.refuse(mistake);
    } else {
      await this.#admit(match, exchange, secrets);
    }
  }

  async #admit(match: RouteMatch, exchange: RequestExchange, secrets: Secrets): Promise<void> {
    const { handshake } = this.#options;
    const { request, query } = exchange;
    let gone = false;
    whenOver(exchange, () => (gone = true));
    const { transport } = match.route;
    let connection: AdmittedConnection | undefined;
    this.#asking.add(exchange);
    try {
      if (transport.serve !== undefined && transport.serves?.(exchange) !== false) {
        await transport.serve(exchange, handshake.receive(visit(match, request, query, secrets)));
        return;
      }
      connection = await handshake.perform(visit(match, request, query, secrets));
      if (gone) throw new RealtimeException('gone');
      addHeaders(exchange.response, connection.responseHeaders);
      await transport.request!(exchange, connection);
    } catch (error) {
      if (connection !== undefined) handshake.abandon(connection);
      exchange.refuse(this.#describe(error));
    } finally {
      this.#asking.delete(exchange);
    }
  }

  #exchange(transport: Transport, request: IncomingMessage, response: ServerResponse): RequestExchange {
    const exchange: RequestExchange = {
      request,
      response,
      query: queryOf(request.url),
      refuse: (refusal) => {
        if (response.headersSent || response.writableEnded || response.destroyed) return;
        if (transport.refuseRequest?.(exchange, refusal) !== true) refuseRequest(response, refusal);
      },
    };
    return exchange;
  }

  async #upgrade(match: RouteMatch, opening: UpgradeExchange, secrets: Secrets): Promise<void> {
    const { handshake } = this.#options;
    const { transport } = match.route;
    const { request, socket } = opening;
    const subprotocol = handshake.subprotocol(request);
    const exchange = subprotocol === undefined ? opening : { ...opening, subprotocol };
    this.#arriving.add(socket);
    try {
      const connection = await handshake.perform(visit(match, request, queryOf(request.url), secrets));
      if (socket.destroyed) {
        handshake.abandon(connection);
        return;
      }
      socket.off('error', destroy); // the transport listens itself
      transport.upgrade!(exchange, connection);
    } catch (error) {
      const refusal = this.#describe(error);
      if (this.#options.rejectMode === 'close' && transport.refuseUpgrade !== undefined && !socket.destroyed) {
        const code = closeCodeOf(refusal);
        transport.refuseUpgrade(exchange, code, refusal.error.code, disconnectFrame(refusal, code));
      } else {
        refuseUpgrade(socket, refusal, handshake.cors(request));
      }
    } finally {
      this.#arriving.delete(socket);
    }
  }

  #describe(error: unknown): Refusal {
    const { refusal, unexpected } = refusalOf(error);
    if (unexpected) this.#options.onError(error);
    return refusal;
  }
}

function visit(
  { route, path, params }: RouteMatch,
  request: IncomingMessage,
  query: URLSearchParams,
  secrets: Secrets,
): Visit {
  return {
    endpoint: route.endpoint,
    transport: route.transport.name,
    route: route.path,
    path,
    request,
    query: query.size === 0 ? NOTHING : Object.fromEntries([...query].reverse()), // of a repeated name the first counts
    secrets,
    params: params ?? NOTHING,
    takesFrames: route.transport.upgrade !== undefined,
    takesTickets: route.transport.takesTickets !== false,
    passing: route.transport.passing === true,
  };
}

/** Why a plain request can't be served, as far as its method and path tell. */
function requestMistake({ method = '' }: IncomingMessage, { route, params }: RouteMatch): Refusal | undefined {
  const { methods } = route.transport;
  if (route.transport.upgrade !== undefined && (method === 'GET' || method === 'HEAD')) {
    const headers = { Upgrade: 'websocket' };
    return refusalWith('not_available', { status: 426, message: 'Connect by a WebSocket upgrade', headers });
  }
  if (!methods.includes(method)) {
    const allow = methods.length === 0 ? 'GET' : [...methods, 'OPTIONS'].join(', ');
    const message = `Only ${allow} is served here`;
    return refusalWith('not_available', { status: 405, message, headers: { Allow: allow } });
  }
  return params === undefined ? badParams() : undefined;
}

/** Why an upgrade can't be served, as far as its head tells: what RFC 6455 asks of a client's opening handshake. */
function upgradeMistake(request: IncomingMessage, { route, params }: RouteMatch): Refusal | undefined {
  const { headers } = request;
  if (route.transport.upgrade === undefined) {
    return refusalWith('not_available', { status: 400, message: 'No upgrade is served here' });
  }
  if (request.method !== 'GET') {
    return refusalWith('not_available', { status: 405, message: 'Only GET upgrades', headers: { Allow: 'GET' } });
  }
  if (headers.upgrade?.toLowerCase() !== 'websocket') {
    const message = 'Only an upgrade to "websocket" is served';
    return refusalWith('not_available', { status: 426, message, headers: { Upgrade: 'websocket' } });
  }
  if (headers['sec-websocket-version'] !== '13') {
    const message = 'Only version 13 of the WebSocket protocol is served';
    return refusalWith('not_available', { status: 426, message, headers: { 'Sec-WebSocket-Version': '13' } });
  }
  if (!WEBSOCKET_KEY.test(headers['sec-websocket-key'] ?? '')) {
    return refusalWith('invalid', { message: 'Sec-WebSocket-Key is 16 bytes in base64' });
  }
  return params === undefined ? badParams() : undefined;
}

function servesRequests(transport: Transport): boolean {
  return transport.request !== undefined || transport.serve !== undefined;
}

function badParams(): Refusal {
  return refusalWith('invalid', { message: 'The path is not valid percent-encoding' });
}

function answerPreflight(request: IncomingMessage, response: ServerResponse, methods: readonly string[]): void {
  response.statusCode = 204;
  if (request.headers['access-control-request-method'] === undefined) {
    response.setHeader('Allow', [...methods, 'OPTIONS'].join(', '));
  } else {
    response.setHeader('Access-Control-Allow-Methods', methods.join(', '));
    response.setHeader('Access-Control-Max-Age', PREFLIGHT_MAX_AGE_S);
    const headers = request.headers['access-control-request-headers'];
    if (headers !== undefined) response.setHeader('Access-Control-Allow-Headers', headers);
    response.setHeader('Vary', 'Origin, Access-Control-Request-Headers');
  }
  response.end();
}

/** The close code of a refusal. Errors that close nothing by themselves tell by it whether to come back. */
function closeCodeOf({ error }: Refusal): number {
  const { close, retry } = errorRow(error.code);
  return close ?? (retry === 'yes' ? 4500 : 4403);
}

function disconnectFrame({ error: { code: reason, retryAfterMs } }: Refusal, code: number): string {
  const delay = retryAfterMs === undefined ? {} : { delayMs: retryAfterMs };
  return encodeEvent('$disconnect', { code, reason, reconnect: retryAfterClose(code) !== 'no', ...delay });
}

function destroy(this: Duplex): void {
  this.destroy();
}

function ignore(): void {}
