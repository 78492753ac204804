import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import path from 'node:path';
import { WebSocket } from 'ws';
import { cleanEnv } from './support/command.js';

const START_MS = 30_000;

// In a process of its own, as Node itself loads the modules: jest cannot, with Nest 12 before Node 24.9.
describe.each(['express', 'fastify'])('nestjs-realtime/throttler with Nest 12 on %s', (platform) => {
  let child: ChildProcess;
  let port: number;
  const sockets: WebSocket[] = [];

  beforeAll(async () => {
    const file = path.join(import.meta.dirname, 'support/throttled-app.mjs');
    child = fork(file, [platform], { env: cleanEnv, execArgv: [], stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    [{ port }] = (await once(child, 'message')) as [{ port: number }];
  }, START_MS);
  afterAll(async () => {
    for (const socket of sockets) socket.terminate();
    child.kill();
    await once(child, 'exit');
  });

  let address = 0;
  /** A peer of an address of its own; asks, and gets the answer. */
  async function connect(endpoint = '/realtime'): Promise<(event: string, data?: unknown) => Promise<any>> {
    const headers = { 'X-Forwarded-For': `10.0.0.${++address}` };
    const socket = new WebSocket(`ws://127.0.0.1:${port}${endpoint}`, { headers });
    sockets.push(socket);
    await once(socket, 'message');
    return async (event, data) => {
      socket.send(JSON.stringify({ id: 1, event, data }));
      const [bytes] = (await once(socket, 'message')) as [Buffer];
      return JSON.parse(bytes.toString());
    };
  }

  async function request(target: string, ip: string): Promise<IncomingMessage> {
    const asked = get({ port, path: target, agent: false, headers: { 'X-Forwarded-For': ip, Accept: '*/*' } });
    const [response] = (await once(asked, 'response')) as [IncomingMessage];
    response.destroy();
    return response;
  }

  const limited = { error: { code: 'rate_limited', retryAfterMs: expect.any(Number) } };

  it('limits frames, those without data too, and tells when to come back', async () => {
    const ask = await connect();
    expect([await ask('echo', 1), await ask('echo')]).toEqual([
      { id: 1, data: 1 },
      { id: 1, data: null },
    ]);
    expect(await ask('echo', 3)).toMatchObject(limited);
    for (let i = 0; i < 4; i++) expect(await ask('free')).toEqual({ id: 1, data: 'free' });
    const other = await connect();
    expect(await other('echo', 1)).toEqual({ id: 1, data: 1 });
  });

  it('limits the hooks of channels', async () => {
    const ask = await connect();
    for (const room of ['a', 'b']) expect(await ask('$subscribe', { channel: `chat.${room}` })).toHaveProperty('data');
    expect(await ask('$subscribe', { channel: 'chat.c' })).toMatchObject(limited);
  });

  it('counts in its interceptor under the same key as in its guard', async () => {
    const ask = await connect('/twice');
    expect(await ask('twice', 1)).toEqual({ id: 1, data: 1 });
    expect(await ask('twice', 2)).toMatchObject(limited);
  });

  it('closes a connection that goes on', async () => {
    const ask = await connect();
    for (let i = 0; i < 12; i++) await ask('echo', i);
    expect(await ask('echo')).toMatchObject({ event: '$disconnect', data: { code: 4529, reason: 'rate_limited' } });
  });

  it('limits handshakes by the address', async () => {
    const statuses: (number | undefined)[] = [];
    for (const ip of ['9.9.9.9', '9.9.9.9', '9.9.9.9', '8.8.8.8']) {
      statuses.push((await request('/realtime/sse?channels=chat.a', ip)).statusCode);
    }
    expect(statuses).toEqual([200, 200, 429, 200]);
  });

  it('leaves HTTP to what the stock guard does', async () => {
    const answers = [];
    for (let i = 0; i < 3; i++) answers.push(await request('/plain', '7.7.7.7'));
    expect(answers.map(({ statusCode }) => statusCode)).toEqual([200, 200, 429]);
    expect(Number(answers[2]!.headers['retry-after'])).toBeGreaterThan(0);
  });
});
