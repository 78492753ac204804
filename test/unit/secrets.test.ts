import { afterEach, describe, expect, it } from '@jest/globals';
import { ConsoleLogger } from '@nestjs/common';
import { once } from 'node:events';
import { createServer, get, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { RealtimeException } from '../../lib/protocol/errors.js';
import { secret, takeLeaks, watchLog } from '../support/secrets.js';

/** Made of two parts, so that the failure of a test does not hold it. */
const token = secret(['tell', 'nobody', 'of-this/one'].join('-'));

afterEach(() => void takeLeaks());

/** Serves one request with a body, in two writes. */
async function serve(...parts: string[]): Promise<string> {
  const server = createServer((_request, response) => {
    response.setHeader('Content-Length', parts.join('').length);
    response.write(parts[0]);
    response.end(parts[1]);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const headers = { Authorization: `Bearer ${token}` };
  const [response] = (await once(get({ port, host: '127.0.0.1', headers, agent: false }), 'response')) as [
    IncomingMessage,
  ];
  const body = await text(response);
  server.close();
  await once(server, 'close');
  return body;
}

describe('a secret of a test file', () => {
  it.each([
    ['a line of a log', () => watchLog(`with ${token} in it`)],
    ['a line of a logger', () => new ConsoleLogger('Test').log(`A test tells ?token=${encodeURIComponent(token)}`)],
    ['the message of an error', () => new Error(`no ${token}`)],
    ['the message of a TypeError', () => new TypeError(`no ${Buffer.from(token).toString('base64')}`)],
    ['the message of an error of the table', () => new RealtimeException('invalid', `no ${token}`)],
  ])('is seen in %s', (_, tell) => {
    tell();
    const [leak, ...others] = takeLeaks();
    expect(others).toEqual([]);
    expect(leak).toMatch(/^(a log line|the message of an error): …/);
    expect(leak).toContain('[secret]');
    expect(leak).not.toContain(token);
  });

  it('is seen in what a server sends, also where it is sent in parts; what peers send is theirs', async () => {
    expect(await serve('all ', 'well')).toBe('all well');
    expect(takeLeaks()).toEqual([]);
    await serve(`hello ${token.slice(0, 9)}`, token.slice(9));
    expect(takeLeaks()).toEqual([expect.stringMatching(/^what a server sent: .*\[secret\]/s)]);
  });

  it('may be told its peer, but not be logged, where it is made for it', async () => {
    const ticket = secret(['ticket', 'told', 'to-you'].join('-'), { told: true });
    await serve(ticket, '');
    expect(takeLeaks()).toEqual([]);
    watchLog(ticket);
    expect(takeLeaks()).toHaveLength(1);
  });

  it('is recognised by the signature of a JSON Web Token and by a line of a key', () => {
    const signature = 'c2lnbmF0dXJlLW9mLWEtdG9rZW4';
    secret(`aGVhZGVy.cGF5bG9hZA.${signature}`);
    secret(`-----BEGIN KEY-----\n${'a1'.repeat(32)}\n${'b2'.repeat(32)}\n-----END KEY-----\n`);
    watchLog(`signed ${signature}`);
    watchLog(`key ${'b2'.repeat(32)}`);
    watchLog('aGVhZGVy');
    expect(takeLeaks()).toHaveLength(2);
  });

  it('leaves errors what they are', () => {
    const error = new RealtimeException('invalid');
    expect([error instanceof Error, error.name, error.message]).toEqual([
      true,
      'RealtimeException',
      'The data does not have the expected shape',
    ]);
    expect(new Error('x').stack).toMatch(/^Error: x\n +at .*secrets\.test\.ts/);
    expect(error.stack).toMatch(/^.*\n +at .*errors\.ts/);
  });
});
