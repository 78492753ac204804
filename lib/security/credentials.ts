import type { IncomingMessage } from 'node:http';
import type { Authenticator, Credentials } from '../hub/ports/authenticator.js';
import { RealtimeException } from '../protocol/errors.js';
import { parseCookies } from './cookies.js';

/** The subprotocol that announces a token: browsers can set no other header of an upgrade. */
const BEARER = 'bearer';
const AUTHORIZATION = /^bearer(?: +(\S+))? *$/i;

/**
 * The credentials of a request: the Authorization header, else `Sec-WebSocket-Protocol: bearer, <token>`, else the query
 * parameter and then the cookie that the authenticator names. What a peer says itself comes before the cookie, which a
 * browser adds without being asked. `secrets` is what was taken out of the query. Throws `unauthenticated` for a bearer
 * header without a token, and `origin_refused` for a cookie in a request that another site's page embeds.
 */
export function extractCredentials(
  request: IncomingMessage,
  { cookie, query }: Pick<Authenticator, 'cookie' | 'query'> = {},
  secrets: Readonly<Record<string, string>> = {},
): Credentials | undefined {
  return (
    given('header', ofHeader(request)) ??
    given('subprotocol', ofSubprotocol(request)) ??
    given('query', query === undefined ? undefined : secrets[query]) ??
    given('cookie', cookie === undefined ? undefined : ofCookie(request, cookie))
  );
}

/** The subprotocol to select. A token is never selected, so that no response repeats it. */
export function selectSubprotocol(request: IncomingMessage): 'bearer' | undefined {
  return offeredSubprotocols(request).includes(BEARER) ? BEARER : undefined;
}

/** Empty is absent: a cookie that was cleared, a parameter without a value. */
function given(source: Credentials['source'], token: string | undefined): Credentials | undefined {
  return token === undefined || token === '' ? undefined : { token, source };
}

function ofHeader({ headers: { authorization } }: IncomingMessage): string | undefined {
  if (authorization === undefined || !/^bearer\b/i.test(authorization)) return undefined;
  const token = AUTHORIZATION.exec(authorization)?.[1];
  if (token === undefined) throw new RealtimeException('unauthenticated');
  return token;
}

function ofSubprotocol(request: IncomingMessage): string | undefined {
  const offered = offeredSubprotocols(request);
  const at = offered.indexOf(BEARER);
  return at === -1 ? undefined : offered[at + 1];
}

function ofCookie(request: IncomingMessage, name: string): string | undefined {
  const token = parseCookies(request.headers.cookie)[name];
  if (token !== undefined && embedded(request)) throw new RealtimeException('origin_refused');
  return token;
}

function offeredSubprotocols(request: IncomingMessage): string[] {
  const header = request.headers['sec-websocket-protocol'];
  return header === undefined ? [] : header.split(',').map((name) => name.trim());
}

/**
 * Whether another page has the browser make this request, such as an image of it: no Origin tells so. With a cookie the
 * peer would be the user who looks at that page.
 */
function embedded({ headers }: IncomingMessage): boolean {
  const site = headers['sec-fetch-site'];
  return headers.origin === undefined && (site === 'cross-site' || site === 'same-site');
}
