/*
 * Connections are counted by subject: a text that names an address or a user. IPv6 addresses count by their network of
 * 64 bits, as that is what a single peer has.
 */

/** The subject of an address; `undefined` where none is known, as for peers that come by a Unix socket. */
export function addressSubject(ip: string): string | undefined {
  if (ip === '') return undefined;
  return `a:${ip.includes(':') ? networkOf(groupsOf(ip)) : ip}`;
}

/** The subject of a user. */
export function userSubject(id: string): string {
  return `u:${id}`;
}

/** What a connection counts for. */
export function subjectsOf({ ip, userId }: { readonly ip: string; readonly userId?: string | undefined }): string[] {
  const address = addressSubject(ip);
  return [...(address === undefined ? [] : [address]), ...(userId === undefined ? [] : [userSubject(userId)])];
}

/** The network, written without shortening; an IPv4 address that was mapped into IPv6 is itself. */
function networkOf(groups: readonly number[]): string {
  const [a, b, c, d, e, f, g = 0, h = 0] = groups;
  if (!a && !b && !c && !d && !e && f === 0xffff) return [g >> 8, g & 255, h >> 8, h & 255].join('.');
  const network = groups.slice(0, 4).map((group) => group.toString(16));
  return `${network.join(':')}::/64`;
}

/** The eight groups of an IPv6 address. */
function groupsOf(ip: string): number[] {
  const [head = '', tail] = ip.replace(/%.*$/, '').split('::');
  const before = numbersOf(head);
  if (tail === undefined) return before;
  const after = numbersOf(tail);
  return [...before, ...Array<number>(Math.max(0, 8 - before.length - after.length)).fill(0), ...after];
}

function numbersOf(text: string): number[] {
  if (text === '') return [];
  return text.split(':').flatMap((group) => {
    if (!group.includes('.')) return [Number.parseInt(group, 16)];
    const [a = 0, b = 0, c = 0, d = 0] = group.split('.').map(Number);
    return [(a << 8) | b, (c << 8) | d];
  });
}
