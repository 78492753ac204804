import { describe, expect, it } from '@jest/globals';
import type { IncomingMessage } from 'node:http';
import { findSecurityMistakes } from '../../../lib/security/options.js';
import { OriginPolicy, type OriginSetting } from '../../../lib/security/origin.js';
import { ProxyTrust, type TrustedProxies } from '../../../lib/security/proxy.js';

function from(remoteAddress: string, headers: Record<string, string> = {}): IncomingMessage {
  return { socket: { remoteAddress }, headers } as unknown as IncomingMessage;
}

describe('ProxyTrust: the address of the peer', () => {
  it.each<[string, string, Record<string, string>, TrustedProxies | undefined, string]>([
    ['the peer itself', '203.0.113.9', { 'x-forwarded-for': '1.1.1.1' }, undefined, '203.0.113.9'],
    ['IPv4 in its own form', '::ffff:203.0.113.9', {}, undefined, '203.0.113.9'],
    ['one hop', '10.0.0.1', { 'x-forwarded-for': '6.6.6.6, 203.0.113.9' }, 1, '203.0.113.9'],
    ['two hops', '10.0.0.1', { 'x-forwarded-for': '6.6.6.6, 203.0.113.9, 10.0.0.2' }, 2, '203.0.113.9'],
    ['fewer entries than hops', '10.0.0.1', { 'x-forwarded-for': '203.0.113.9' }, 3, '203.0.113.9'],
    ['no header', '10.0.0.1', {}, 1, '10.0.0.1'],
    [
      'a trusted range',
      '10.0.0.1',
      { 'x-forwarded-for': '6.6.6.6, 203.0.113.9, 10.2.3.4' },
      ['10.0.0.0/8'],
      '203.0.113.9',
    ],
    ['a peer that is not trusted', '203.0.113.9', { 'x-forwarded-for': '6.6.6.6' }, ['10.0.0.0/8'], '203.0.113.9'],
    ['a mapped proxy', '::ffff:10.0.0.1', { 'x-forwarded-for': '203.0.113.9:4711' }, ['10.0.0.1'], '203.0.113.9'],
    ['IPv6 with a port', '::1', { 'x-forwarded-for': '[2001:db8::9]:4711' }, ['::1/128'], '2001:db8::9'],
    ['plain IPv6', '::1', { 'x-forwarded-for': '2001:db8::9' }, ['::1'], '2001:db8::9'],
    ['Forwarded', '10.0.0.1', { forwarded: 'for=6.6.6.6, proto=https;for="[2001:db8::9]:1";by=x' }, 1, '2001:db8::9'],
    [
      'X-Forwarded-For before Forwarded',
      '10.0.0.1',
      { 'x-forwarded-for': '1.1.1.1', forwarded: 'for=6.6.6.6' },
      1,
      '1.1.1.1',
    ],
    ['a name that is no address', '10.0.0.1', { 'x-forwarded-for': '6.6.6.6, unknown' }, 2, '10.0.0.1'],
  ])('takes %s', (_name, remote, headers, trusted, address) => {
    expect(new ProxyTrust(trusted).clientAddress(from(remote, headers))).toBe(address);
  });
});

describe('OriginPolicy', () => {
  function allows(setting: OriginSetting, headers: Record<string, string>, trusted?: TrustedProxies): boolean {
    return new OriginPolicy(setting, new ProxyTrust(trusted)).allows(from('10.0.0.1', headers));
  }

  it.each<[boolean, string, string]>([
    [true, 'https://example.com', 'example.com'],
    [true, 'https://example.com', 'EXAMPLE.com:443'],
    [true, 'http://localhost:3000', 'localhost:3000'],
    [false, 'http://localhost:5173', 'localhost:3000'],
    [false, 'https://example.com.evil.example', 'example.com'],
    [false, 'null', 'example.com'],
    [false, 'nonsense', 'example.com'],
  ])('same-host: %s for %s at %s', (allowed, origin, host) => {
    expect(allows('same-host', { origin, host })).toBe(allowed);
  });

  it('takes the forwarded host from trusted proxies only', () => {
    const headers = { origin: 'https://example.com', host: 'upstream:3000', 'x-forwarded-host': 'example.com' };
    expect([allows('same-host', headers, 1), allows('same-host', headers)]).toEqual([true, false]);
  });

  it('takes the authority of HTTP/2', () => {
    expect(allows('same-host', { origin: 'https://example.com', ':authority': 'example.com' })).toBe(true);
  });
});

describe('findSecurityMistakes', () => {
  it('finds nothing in what is right', () => {
    for (const origins of [undefined, '*', 'same-host', ['https://a.example', /x/, 'null', 'http://localhost:5173']]) {
      expect(findSecurityMistakes({ origins, trustedProxies: ['10.0.0.0/8', '::1'], rejectMode: 'close' })).toEqual([]);
    }
    expect(findSecurityMistakes({ trustedProxies: 2 })).toEqual([]);
  });

  it('finds all mistakes, each with its path', () => {
    const mistakes = findSecurityMistakes({
      origins: ['https://a.example/', '*', 7],
      trustedProxies: ['10.0.0.0/33', 'localhost', 5],
      rejectMode: 'drop',
    });
    expect(mistakes.map(({ path }) => path)).toEqual([
      'origins[0]',
      'origins[1]',
      'origins[2]',
      'trustedProxies[0]',
      'trustedProxies[1]',
      'trustedProxies[2]',
      'rejectMode',
    ]);
    expect(findSecurityMistakes({ origins: 'example.com', trustedProxies: -1 })).toHaveLength(2);
  });
});
