// A Redis of the bench's own, without persistence, on the load generator's core.
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { once } from 'node:events';
import { Redis } from 'ioredis';
import { needRedis } from '../../scripts/redis.mjs';
import { startBeside } from './processes.mjs';

const STARTS_WITHIN_MS = 10_000;

export class RedisServer {
  #child;
  #client;
  #directory;

  static async start() {
    const server = new RedisServer();
    const port = await freePort();
    server.#directory = mkdtempSync(path.join(tmpdir(), 'bench-redis-'));
    const settings = { port, bind: '127.0.0.1', dir: server.#directory, save: '', appendonly: 'no' };
    const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]);
    server.#child = startBeside([await needRedis(), ...args], { stdio: 'ignore' });
    server.url = `redis://127.0.0.1:${port}`;
    server.#client = new Redis(server.url, { retryStrategy: () => 20, maxRetriesPerRequest: null });
    server.#client.on('error', () => {}); // until it listens
    const started = await Promise.race([server.#info('server'), sleep(STARTS_WITHIN_MS, undefined, { ref: false })]);
    if (started === undefined) throw new Error(`redis-server does not answer on port ${port}`);
    server.version = started.redis_version;
    return server;
  }

  /** CPU time so far, µs. */
  async usage() {
    const { used_cpu_user: user, used_cpu_sys: system } = await this.#info('cpu');
    return (Number(user) + Number(system)) * 1e6;
  }

  async stop() {
    const ended = once(this.#child, 'exit');
    this.#client.disconnect();
    this.#child.kill('SIGKILL');
    await ended;
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async #info(section) {
    const lines = (await this.#client.info(section)).split('\r\n');
    return Object.fromEntries(lines.filter((line) => line.includes(':')).map((line) => line.split(':', 2)));
  }
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}
