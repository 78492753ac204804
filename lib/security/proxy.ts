import type { IncomingMessage } from 'node:http';
import { BlockList, isIP } from 'node:net';

/**
 * The proxies whose word about the peer's address and host is taken: how many stand in front of this process, or their
 * addresses and CIDR ranges.
 */
export type TrustedProxies = number | readonly string[];

const MAPPED = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i;
const FORWARDED_FOR = /(?:^|[;\s])for=(?:"([^"]*)"|([^;\s]*))/i;

/** Addresses that no peer of the internet has: what names another one from there is a proxy. */
const PRIVATE = ['127.0.0.0/8', '10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '::1', 'fc00::/7'];

/** Tells which addresses are proxies of ours. */
export class ProxyTrust {
  readonly #hops: number;
  readonly #list: BlockList | undefined;
  #untrusted: (() => void) | undefined;

  /** @param untrusted Called once: a proxy in a private network names the address of a peer, and is not trusted. */
  constructor(trusted: TrustedProxies = 0, untrusted?: () => void) {
    this.#hops = typeof trusted === 'number' ? trusted : 0;
    this.#list = typeof trusted === 'number' ? undefined : listOf(trusted);
    this.#untrusted = untrusted;
  }

  /** The address of the peer, behind the trusted proxies; IPv4 in its own form. */
  clientAddress(request: IncomingMessage): string {
    let address = normalise(request.socket.remoteAddress ?? '');
    if (!this.#trusts(address, 0)) {
      this.#notice(request, address);
      return address;
    }
    const named = forwardedFor(request);
    for (let hop = 0; this.#trusts(address, hop); hop++) {
      const next = named.pop();
      // What a proxy could not name ("unknown", an obfuscated name) ends the chain at the proxy.
      if (next === undefined || isIP(next) === 0) break;
      address = next;
    }
    return address;
  }

  /** The host that the peer asked for: the proxy's word where the request comes from a trusted one. */
  requestedHost(request: IncomingMessage): string | undefined {
    const forwarded = request.headers['x-forwarded-host'];
    if (typeof forwarded === 'string' && this.#trusts(normalise(request.socket.remoteAddress ?? ''), 0)) {
      const first = forwarded.split(',', 1)[0]!.trim();
      if (first !== '') return first;
    }
    return request.headers.host ?? (request.headers[':authority'] as string | undefined);
  }

  #notice({ headers }: IncomingMessage, address: string): void {
    if (this.#untrusted === undefined || headers['x-forwarded-for'] === undefined) return;
    if (!includes(listOf(PRIVATE), address)) return;
    this.#untrusted();
    this.#untrusted = undefined;
  }

  #trusts(address: string, hop: number): boolean {
    return this.#list === undefined ? hop < this.#hops : includes(this.#list, address);
  }
}

/** Why a text is neither an address nor a CIDR range, or `undefined` if it is one. */
export function rangeMistake(entry: unknown): string | undefined {
  if (typeof entry !== 'string') return 'expected an address or a CIDR range as text';
  const [address = '', prefix, ...rest] = entry.split('/');
  const family = isIP(address);
  if (family === 0 || rest.length > 0) return 'expected an address such as "10.0.0.1" or a range such as "10.0.0.0/8"';
  const bits = family === 6 ? 128 : 32;
  if (prefix === undefined || (/^\d{1,3}$/.test(prefix) && Number(prefix) <= bits)) return undefined;
  return `expected a prefix length from 0 to ${bits}`;
}

function listOf(ranges: readonly string[]): BlockList {
  const list = new BlockList();
  for (const range of ranges) addRange(list, range);
  return list;
}

function includes(list: BlockList, address: string): boolean {
  const family = isIP(address);
  return family !== 0 && list.check(address, family === 6 ? 'ipv6' : 'ipv4');
}

function addRange(list: BlockList, entry: string): void {
  const [address, prefix] = entry.split('/') as [string, string | undefined];
  const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
  if (prefix === undefined) list.addAddress(normalise(address), isIP(normalise(address)) === 6 ? 'ipv6' : 'ipv4');
  else list.addSubnet(address, Number(prefix), family);
}

/**
 * The addresses that proxies named, the nearest last. `Forwarded` counts only where no X-Forwarded-For came: a proxy
 * that writes the one lets a peer's own version of the other pass.
 */
function forwardedFor(request: IncomingMessage): string[] {
  const list = request.headers['x-forwarded-for'];
  if (list !== undefined) return String(list).split(',').map(addressOf);
  const { forwarded } = request.headers;
  if (forwarded === undefined) return [];
  return forwarded.split(',').map((element) => {
    const found = FORWARDED_FOR.exec(element);
    return addressOf(found?.[1] ?? found?.[2] ?? '');
  });
}

/** An address without its port and brackets. */
function addressOf(text: string): string {
  const trimmed = text.trim();
  if (trimmed.startsWith('[')) return normalise(trimmed.slice(1, trimmed.indexOf(']')));
  const colon = trimmed.indexOf(':');
  const port = colon !== -1 && colon === trimmed.lastIndexOf(':');
  return normalise(port ? trimmed.slice(0, colon) : trimmed);
}

function normalise(address: string): string {
  return MAPPED.exec(address)?.[1] ?? address;
}
