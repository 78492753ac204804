import { describe, expect, it } from '@jest/globals';
import type { IncomingMessage } from 'node:http';
import { takeFromQuery } from '../../../lib/security/redaction.js';

function requestOf(url: string, headers: Record<string, string> = {}): IncomingMessage {
  const rawHeaders = Object.entries(headers).flat();
  return { url, headers, rawHeaders } as unknown as IncomingMessage;
}

describe('takeFromQuery', () => {
  it.each([
    ['/rt?token=s3cret', '/rt', { token: 's3cret' }],
    ['/rt?a=1&token=s3cret&b=%20x', '/rt?a=1&b=%20x', { token: 's3cret' }],
    ['/rt?token=first&token=second', '/rt', { token: 'first' }],
    ['/rt?%74oken=s%33cret&a', '/rt?a', { token: 's3cret' }],
    ['/rt?token', '/rt', { token: '' }],
    ['/rt?a=?token=x&ticket=t', '/rt?a=?token=x', { ticket: 't' }],
    ['/rt?&&token=x&', '/rt?&&', { token: 'x' }],
    ['http://example.com/rt?token=x', 'http://example.com/rt', { token: 'x' }],
  ])('takes the named parameters out of %s and leaves %s', (url, left, taken) => {
    const request = requestOf(url);
    expect({ ...takeFromQuery(request, ['token', 'ticket']) }).toEqual(taken);
    expect(request.url).toBe(left);
  });

  it.each(['/rt', '/rt?', '/rt?tokens=1&Token=2', '/rt?a=%zz&__proto__=1'])('leaves %s as it is', (url) => {
    const request = requestOf(url);
    expect(takeFromQuery(request, ['token'])).toEqual({});
    expect(request.url).toBe(url);
  });

  it('rewrites what HTTP/2 has of the URL besides', () => {
    const request = requestOf('/rt?token=x&a=1', { ':method': 'GET', ':path': '/rt?token=x&a=1' });
    takeFromQuery(request, ['token']);
    expect(request.headers[':path']).toBe('/rt?a=1');
    expect(request.rawHeaders).toEqual([':method', 'GET', ':path', '/rt?a=1']);
  });
});
