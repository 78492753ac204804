import { Redis } from 'ioredis';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { freePort, RedisServer, until } from './redis-server.js';

const NAME = 'realtime';
/** After how long without a sign of life a master is failed over: never, unless a test is about that. */
const PATIENT_MS = 3_600_000;
const WATCHING_MS = 500;

/** A master, two replicas, and three Sentinels that watch them. */
export class RedisSentinel {
  private constructor(
    readonly servers: readonly RedisServer[],
    readonly sentinels: readonly RedisServer[],
  ) {}

  static async start(): Promise<RedisSentinel> {
    const master = await RedisServer.start({ config: ['repl-diskless-sync-delay', '0'] });
    const servers = [master];
    for (let i = 0; i < 2; i++) {
      const config = ['replicaof', `127.0.0.1 ${master.port}`, 'repl-diskless-sync-delay', '0'];
      servers.push(await RedisServer.start({ config }));
    }
    const synced = async (): Promise<boolean> => /slave1:.*state=online/.test(await master.send('INFO', 'replication'));
    await until(synced, 'two replicas');
    const sentinels: RedisServer[] = [];
    for (let i = 0; i < 3; i++) {
      const port = await freePort();
      const file = path.join(master.directory, `sentinel-${i}.conf`);
      const lines = [
        `port ${port}`,
        'bind 127.0.0.1',
        `dir ${master.directory}`,
        `sentinel monitor ${NAME} 127.0.0.1 ${master.port} 2`,
        `sentinel down-after-milliseconds ${NAME} ${PATIENT_MS}`,
        `sentinel failover-timeout ${NAME} 3000`,
      ];
      writeFileSync(file, `${lines.join('\n')}\n`);
      sentinels.push(await RedisServer.start({ port, sentinel: file }));
    }
    const ready = async (): Promise<boolean> => {
      const views = await Promise.all(sentinels.map((sentinel) => sentinel.send('SENTINEL', 'MASTER', NAME)));
      return views.every((view) => view.includes('num-slaves\n2\n') && view.includes('num-other-sentinels\n2\n'));
    };
    await until(ready, 'three Sentinels that know each other');
    return new RedisSentinel(servers, sentinels);
  }

  /** A client that says where the Sentinels are. */
  client(): Redis {
    const sentinels = this.sentinels.map(({ port }) => ({ host: '127.0.0.1', port }));
    const client = new Redis({ sentinels, name: NAME, lazyConnect: true });
    client.on('error', () => undefined);
    return client;
  }

  async master(): Promise<RedisServer> {
    const address = await this.sentinels[0]!.send('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', NAME);
    return this.servers.find(({ port }) => port === Number(address.split('\n')[1]))!;
  }

  /** Until the master is replaced, one that is away is failed over, and so is one that is kept from answering. */
  watch(): Promise<void> {
    return this.wait(WATCHING_MS);
  }

  /** Kills the master; resolves with the new one. */
  async failOver(): Promise<RedisServer> {
    const before = await this.master();
    await this.watch();
    await before.kill();
    return this.replaced(before);
  }

  /** Resolves with the master that took a master's place. No other takes its own from then on. */
  async replaced(before: RedisServer): Promise<RedisServer> {
    await until(async () => {
      const now = await this.master();
      return now !== before && (await now.send('ROLE')).startsWith('master');
    }, 'another master');
    await this.wait(PATIENT_MS);
    return this.master();
  }

  private async wait(ms: number): Promise<void> {
    for (const sentinel of this.sentinels) {
      await sentinel.send('SENTINEL', 'SET', NAME, 'down-after-milliseconds', ms);
    }
  }

  async dispose(): Promise<void> {
    await Promise.all(this.sentinels.map((server) => server.dispose()));
    await Promise.all(this.servers.map((server) => server.dispose()));
  }
}
