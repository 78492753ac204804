import { originMistake } from './origin.js';
import { rangeMistake } from './proxy.js';

/** A mistake in the options: where, and what was expected. */
export interface OptionMistake {
  readonly path: string;
  readonly message: string;
}

const MAX_HOPS = 32;

/** A token of RFC 6265, section 4.1.1. */
const COOKIE_NAME = /^[\w!#$%&'*+.^`|~-]+$/;
/** What else is read from the query. */
const OTHER_PARAMETERS = ['channels', 'format', 'client', 'lastEventId', 'cursor', 'inbox', 'ticket'];

/** Checks `origins`, `trustedProxies`, `rejectMode`, and where `auth` takes tokens from; finds all mistakes at once. */
export function findSecurityMistakes(options: {
  origins?: unknown;
  trustedProxies?: unknown;
  rejectMode?: unknown;
  auth?: unknown;
}): OptionMistake[] {
  const mistakes: OptionMistake[] = [];
  const { origins, trustedProxies, rejectMode } = options;
  const each = (path: string, list: readonly unknown[], mistakeOf: (entry: unknown) => string | undefined): void =>
    list.forEach((entry, i) => {
      const message = mistakeOf(entry);
      if (message !== undefined) mistakes.push({ path: `${path}[${i}]`, message });
    });
  if (Array.isArray(origins)) each('origins', origins, originMistake);
  else if (origins !== undefined && origins !== 'same-host' && origins !== '*') {
    mistakes.push({ path: 'origins', message: "expected 'same-host', '*' or a list of origins" });
  }
  if (Array.isArray(trustedProxies)) each('trustedProxies', trustedProxies, rangeMistake);
  else if (trustedProxies !== undefined && !isHops(trustedProxies)) {
    const message = `expected the number of proxies (0 to ${MAX_HOPS}) or a list of addresses and CIDR ranges`;
    mistakes.push({ path: 'trustedProxies', message });
  }
  if (rejectMode !== undefined && rejectMode !== 'http' && rejectMode !== 'close') {
    mistakes.push({ path: 'rejectMode', message: "expected 'http' or 'close'" });
  }
  const { cookie, query } = (options.auth ?? {}) as { cookie?: unknown; query?: unknown };
  mistakes.push(...findPlaceMistakes({ cookie, query }, 'auth.'));
  if (cookie !== undefined && origins === '*') {
    const message = "with a cookie as the credential, '*' lets every page act as its visitor: list the origins";
    mistakes.push({ path: 'origins', message });
  }
  return mistakes;
}

/** Checks the names of the cookie and of the query parameter that may hold a token. */
export function findPlaceMistakes(
  { cookie, query }: { cookie?: unknown; query?: unknown },
  prefix = '',
): OptionMistake[] {
  const mistakes: OptionMistake[] = [];
  if (cookie !== undefined && (typeof cookie !== 'string' || !COOKIE_NAME.test(cookie))) {
    mistakes.push({ path: `${prefix}cookie`, message: 'expected the name of a cookie' });
  }
  if (query !== undefined && (typeof query !== 'string' || query === '' || OTHER_PARAMETERS.includes(query))) {
    const message = `expected the name of a query parameter, other than ${OTHER_PARAMETERS.join(', ')}`;
    mistakes.push({ path: `${prefix}query`, message });
  }
  return mistakes;
}

function isHops(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= MAX_HOPS;
}
