import type { IncomingMessage } from 'node:http';

/** What a request without a query gives. */
const NOTHING: Readonly<Record<string, string>> = Object.freeze({});
/** Where HTTP/2 has the URL of a request. */
const PATH_HEADER = ':path';

/**
 * Takes parameters out of a request's URL, in place, so that whatever reads the URL later (guards, hooks, logs) does not
 * see them; the rest of the URL stays as it is. Gives their values; of a repeated one the first.
 */
export function takeFromQuery(request: IncomingMessage, names: readonly string[]): Readonly<Record<string, string>> {
  const { url = '' } = request;
  const at = url.indexOf('?');
  if (at === -1 || names.length === 0) return NOTHING;
  const taken = Object.create(null) as Record<string, string>;
  const pairs = url.slice(at + 1).split('&');
  const rest = pairs.filter((pair) => {
    const [entry] = new URLSearchParams(pair);
    if (entry === undefined || !names.includes(entry[0])) return true;
    taken[entry[0]] ??= entry[1];
    return false;
  });
  if (rest.length < pairs.length)
    rewriteUrl(request, url.slice(0, at) + (rest.length === 0 ? '' : `?${rest.join('&')}`));
  return taken;
}

function rewriteUrl(request: IncomingMessage, url: string): void {
  request.url = url;
  const { headers, rawHeaders } = request;
  if (!(PATH_HEADER in headers)) return;
  headers[PATH_HEADER] = url;
  const name = rawHeaders.indexOf(PATH_HEADER);
  if (name !== -1) rawHeaders[name + 1] = url;
}
