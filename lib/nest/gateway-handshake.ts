import { validateHeaderName, validateHeaderValue, type IncomingMessage } from 'node:http';
import type { ExecutionContext, Type } from '@nestjs/common';
import type { Connection } from '../hub/connection.js';
import { parseCookies } from '../security/cookies.js';

/** The request that opens a connection, as guards written for HTTP expect it. */
export interface HandshakeRequest extends IncomingMessage {
  /** The peer's address, behind trusted proxies the one that they name. */
  ip: string;
  query: Record<string, string>;
  /** The parameters of the endpoint's path. */
  params: Record<string, string>;
  cookies: Record<string, string>;
  /** Who the peer is: what a guard puts here becomes the connection's `user`. */
  user?: unknown;
}

/** Adds to Node's request what a framework would have. */
export function handshakeRequest(
  request: IncomingMessage,
  connection: Pick<Connection, 'ip' | 'query' | 'params'> & { readonly user?: Connection['user'] },
): HandshakeRequest {
  const known = request as Partial<HandshakeRequest>;
  const added = {
    ip: connection.ip,
    query: { ...connection.query },
    params: { ...connection.params },
    cookies: known.cookies ?? parseCookies(request.headers.cookie),
    user: connection.user ?? known.user,
  };
  // Express has getters of these names on the prototype.
  for (const [name, value] of Object.entries(added)) {
    Object.defineProperty(request, name, { value, writable: true, enumerable: true, configurable: true });
  }
  return request as HandshakeRequest;
}

type HeaderValue = string | string[];

/** Names that frame a response or its body: those are the wire's own. */
const FRAMING = /^(?:connection|keep-alive|upgrade|te|trailer|transfer-encoding|content-.*|sec-websocket-.*)$/;

/** The response of a handshake, as guards written for HTTP expect it: it collects the headers of what is answered. */
export class HandshakeResponse {
  statusCode = 200;
  readonly headersSent = false;
  readonly #headers = new Map<string, readonly [name: string, value: HeaderValue]>();

  /** The headers that were set. */
  get headers(): Record<string, HeaderValue> {
    return Object.fromEntries(this.#headers.values());
  }

  /** Those of them that a response which accepts the peer may carry; `undefined` where there are none. */
  get acceptedHeaders(): Record<string, HeaderValue> | undefined {
    const headers = [...this.#headers].filter(([name]) => !FRAMING.test(name)).map(([, header]) => header);
    return headers.length === 0 ? undefined : Object.fromEntries(headers);
  }

  setHeader(name: string, value: number | string | readonly string[]): this {
    const given = Array.isArray(value) ? value.map(String) : String(value);
    validateHeaderName(name);
    for (const one of [given].flat()) validateHeaderValue(name, one);
    this.#headers.set(name.toLowerCase(), [name, given]);
    return this;
  }

  /** Express's and Fastify's name of {@link setHeader}. */
  header(name: string, value: number | string | readonly string[]): this {
    return this.setHeader(name, value);
  }

  /** Express's name of {@link setHeader}. */
  set(name: string, value: number | string | readonly string[]): this {
    return this.setHeader(name, value);
  }

  appendHeader(name: string, value: string | readonly string[]): this {
    const before = this.getHeader(name);
    return this.setHeader(name, before === undefined ? value : [before, value].flat());
  }

  getHeader(name: string): HeaderValue | undefined {
    return this.#headers.get(name.toLowerCase())?.[1];
  }

  get(name: string): HeaderValue | undefined {
    return this.getHeader(name);
  }

  hasHeader(name: string): boolean {
    return this.#headers.has(name.toLowerCase());
  }

  removeHeader(name: string): void {
    this.#headers.delete(name.toLowerCase());
  }

  status(code: number): this {
    this.statusCode = code;
    return this;
  }

  code(code: number): this {
    return this.status(code);
  }
}

/** What guards of a handshake are asked with: a context of type `http` whose WebSocket client is being opened. */
export class HandshakeContext implements ExecutionContext {
  readonly #args: [HandshakeRequest, HandshakeResponse];

  constructor(
    request: HandshakeRequest,
    response: HandshakeResponse,
    private readonly connection: Connection | undefined,
    private readonly metatype: Type,
    // eslint-disable-next-line @typescript-eslint/no-unsafe-function-type -- Nest's own type of a handler
    private readonly handler: Function,
  ) {
    this.#args = [request, response];
  }

  getType<T extends string>(): T {
    return 'http' as T;
  }

  getClass<T>(): Type<T> {
    return this.metatype as Type<T>;
  }

  // eslint-disable-next-line @typescript-eslint/no-unsafe-function-type -- Nest's own type of a handler
  getHandler(): Function {
    return this.handler;
  }

  getArgs<T extends unknown[]>(): T {
    return this.#args as unknown[] as T;
  }

  getArgByIndex<T>(index: number): T {
    return this.#args[index] as T;
  }

  switchToHttp(): ReturnType<ExecutionContext['switchToHttp']> {
    const [request, response] = this.#args;
    const http = { getRequest: () => request, getResponse: () => response, getNext: () => () => undefined };
    return http as unknown as ReturnType<ExecutionContext['switchToHttp']>;
  }

  switchToWs(): ReturnType<ExecutionContext['switchToWs']> {
    const ws = { getClient: () => this.connection, getData: () => undefined, getPattern: () => 'handleConnection' };
    return ws as unknown as ReturnType<ExecutionContext['switchToWs']>;
  }

  switchToRpc(): ReturnType<ExecutionContext['switchToRpc']> {
    const [request, response] = this.#args;
    const rpc = { getData: () => request, getContext: () => response };
    return rpc as unknown as ReturnType<ExecutionContext['switchToRpc']>;
  }
}
