import type { Transport } from '../hub/ports/transport.js';

/** A path that is served: an endpoint's own, or one below it. */
export interface Route {
  /** The key that the endpoint was registered with. */
  readonly endpoint: string;
  readonly transport: Transport;
  /** What takes the path, with the names of its parameters. */
  readonly path: string;
  /** Whether this is the root of the server, whose plain requests belong to the application. */
  readonly root: boolean;
  readonly segments: readonly string[];
  readonly literals: number;
}

/** What a path without parameters gives. */
const NO_PARAMS: Readonly<Record<string, string>> = Object.freeze({});

/** A route that a path took. `params` is absent where one of them is no valid percent-encoding. */
export interface RouteMatch {
  readonly route: Route;
  /** The path of the request itself: without a query, a fragment, or the name of the host. */
  readonly path: string;
  readonly params: Readonly<Record<string, string>> | undefined;
}

/** The paths of a server's endpoints. Of two that match, the one with more literal segments wins, then the earlier. */
export class Routes {
  readonly #bySize: (Route[] | undefined)[] = [];

  /** Adds a path with parameters such as `/rooms/:id`, and the transport's subpath below it. */
  add(path: string, endpoint: string, transport: Transport): void {
    const segments = split(path);
    if (transport.subpath !== '') segments.push(...transport.subpath.split('/'));
    const literals = segments.filter((segment) => !segment.startsWith(':')).length;
    const list = (this.#bySize[segments.length] ??= []);
    list.push({ endpoint, transport, path: `/${segments.join('/')}`, root: segments.length === 0, segments, literals });
    list.sort((a, b) => b.literals - a.literals);
  }

  /** Finds the route of a request's URL. */
  match(url: string | undefined): RouteMatch | undefined {
    const path = pathOf(url ?? '/');
    const segments = split(path);
    const route = this.#bySize[segments.length]?.find((candidate) => fits(candidate.segments, segments));
    return route === undefined ? undefined : { route, path, params: paramsOf(route.segments, segments) };
  }
}

/** The query of a request's URL. */
export function queryOf(url: string | undefined): URLSearchParams {
  const at = url?.indexOf('?') ?? -1;
  return new URLSearchParams(at === -1 ? '' : url!.slice(at + 1));
}

/** The path of a URL, be it the path alone or, as proxies may ask, the whole URL. */
function pathOf(url: string): string {
  if (!url.startsWith('/')) return URL.canParse(url) ? new URL(url).pathname : '/*';
  const end = url.search(/[?#]/);
  return end === -1 ? url : url.slice(0, end);
}

/** The segments of a path; one slash at its end means nothing. */
function split(path: string): string[] {
  const end = path.length > 1 && path.endsWith('/') ? -1 : undefined;
  const inner = path.slice(1, end);
  return inner === '' ? [] : inner.split('/');
}

function fits(pattern: readonly string[], segments: readonly string[]): boolean {
  for (let i = 0; i < pattern.length; i++) {
    const segment = segments[i]!;
    if (pattern[i]!.startsWith(':') ? segment === '' : pattern[i] !== segment) return false;
  }
  return true;
}

function paramsOf(
  pattern: readonly string[],
  segments: readonly string[],
): Readonly<Record<string, string>> | undefined {
  if (!pattern.some((name) => name.startsWith(':'))) return NO_PARAMS;
  const params: Record<string, string> = {};
  try {
    pattern.forEach((name, i) => {
      if (name.startsWith(':')) params[name.slice(1)] = decodeURIComponent(segments[i]!);
    });
  } catch {
    return undefined;
  }
  return params;
}
