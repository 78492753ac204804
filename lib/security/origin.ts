import type { IncomingMessage } from 'node:http';
import type { ProxyTrust } from './proxy.js';

/**
 * Which pages may connect: those of the host that the request names, all, or those of a list of origins. It holds for
 * upgrades and for CORS alike. A request without Origin is none of a page's and passes.
 */
export type OriginSetting = 'same-host' | '*' | readonly (string | RegExp)[];

/** Decides by a request's Origin. */
export class OriginPolicy {
  constructor(
    private readonly setting: OriginSetting,
    private readonly proxies: ProxyTrust,
  ) {}

  allows(request: IncomingMessage): boolean {
    const { origin } = request.headers;
    if (origin === undefined || this.setting === '*') return true;
    if (this.setting !== 'same-host') return this.setting.some((entry) => matches(entry, origin));
    const host = this.proxies.requestedHost(request);
    return host !== undefined && sameHost(origin, host);
  }

  /** The CORS headers of a response; `undefined` where the origin is refused. */
  headers(request: IncomingMessage): Record<string, string> | undefined {
    if (!this.allows(request)) return undefined;
    if (this.setting === '*') return { 'Access-Control-Allow-Origin': '*' };
    const { origin } = request.headers;
    if (origin === undefined) return { Vary: 'Origin' };
    return { 'Access-Control-Allow-Origin': origin, 'Access-Control-Allow-Credentials': 'true', Vary: 'Origin' };
  }
}

/** Why a value is no entry of a list of origins, or `undefined` if it is one. */
export function originMistake(entry: unknown): string | undefined {
  if (entry instanceof RegExp || entry === 'null') return undefined;
  if (typeof entry !== 'string') return 'expected an origin as text, or a RegExp';
  if (entry === '*' || entry === 'same-host') return `expected an origin; '${entry}' stands alone, not in a list`;
  return URL.canParse(entry) && new URL(entry).origin === entry.toLowerCase()
    ? undefined
    : 'expected an origin such as "https://example.com": scheme, host and port, nothing behind';
}

function matches(entry: string | RegExp, origin: string): boolean {
  if (typeof entry === 'string') return entry.toLowerCase() === origin;
  entry.lastIndex = 0; // a RegExp with the flag "g" or "y" remembers where it stopped
  return entry.test(origin);
}

/** Whether an origin is of a host, the port included; a default port may be left out. */
function sameHost(origin: string, host: string): boolean {
  if (origin === `https://${host}` || origin === `http://${host}`) return true;
  if (!URL.canParse(origin)) return false;
  const page = new URL(origin);
  const asked = `${page.protocol}//${host}`;
  return page.host !== '' && URL.canParse(asked) && new URL(asked).host === page.host;
}
