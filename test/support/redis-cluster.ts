import { Cluster } from 'ioredis';
import { crc16 } from '../../lib/brokers/redis-keys.js';
import { freePort, RedisServer, until } from './redis-server.js';

const SLOTS = 16_384;

/** Three masters that share the slots. */
export class RedisCluster {
  private constructor(readonly servers: readonly RedisServer[]) {}

  static async start(): Promise<RedisCluster> {
    const servers: RedisServer[] = [];
    for (let i = 0; i < 3; i++) {
      const config = ['cluster-enabled', 'yes', 'cluster-node-timeout', '30000', 'cluster-require-full-coverage', 'no'];
      servers.push(await RedisServer.start({ config, port: await freePort() }));
    }
    const cluster = new RedisCluster(servers);
    const share = Math.ceil(SLOTS / servers.length);
    for (const [i, server] of servers.entries()) {
      await server.send('CLUSTER', 'SET-CONFIG-EPOCH', i + 1);
      await server.send('CLUSTER', 'ADDSLOTSRANGE', i * share, Math.min(SLOTS, (i + 1) * share) - 1);
    }
    for (const server of servers.slice(1)) await servers[0]!.send('CLUSTER', 'MEET', '127.0.0.1', server.port);
    await until(async () => {
      const states = await Promise.all(servers.map((server) => server.send('CLUSTER', 'INFO')));
      return states.every((state) => /cluster_state:ok[^]*cluster_slots_ok:16384[^]*cluster_size:3/.test(state));
    }, 'a cluster of 3 masters');
    return cluster;
  }

  /** A client that says where the cluster is. */
  client(): Cluster {
    const nodes = this.servers.map(({ port }) => ({ host: '127.0.0.1', port }));
    const client = new Cluster(nodes, { lazyConnect: true });
    client.on('error', () => undefined);
    return client;
  }

  /** Sends a command to the master of its key. */
  async send(...command: (string | number)[]): Promise<string> {
    return (await this.ownerOf(slotOf(String(command[1])))).send(...command);
  }

  async sendToAll(...command: string[]): Promise<void> {
    await Promise.all(this.servers.map((server) => server.send(...command)));
  }

  async ownerOf(slot: number): Promise<RedisServer> {
    const ranges = (await this.servers[0]!.send('CLUSTER', 'NODES')).split('\n').filter((line) => line !== '');
    for (const line of ranges) {
      const [, address, , , , , , , ...slots] = line.split(' ');
      for (const range of slots.filter((text) => !text.startsWith('['))) {
        const [from, to = from] = range.split('-').map(Number);
        if (slot >= from! && slot <= to!) {
          const port = Number(/:(\d+)@/.exec(address!)![1]);
          return this.servers.find((server) => server.port === port)!;
        }
      }
    }
    throw new Error(`Nobody has slot ${slot}`);
  }

  /** Begins to move a slot; the returned functions move its keys and end the move. */
  async migrate(slot: number): Promise<{ to: RedisServer; moveKeys(): Promise<void>; end(): Promise<void> }> {
    const from = await this.ownerOf(slot);
    const to = this.servers.find((server) => server !== from)!;
    const [fromId, toId] = [await from.send('CLUSTER', 'MYID'), await to.send('CLUSTER', 'MYID')];
    await to.send('CLUSTER', 'SETSLOT', slot, 'IMPORTING', fromId);
    await from.send('CLUSTER', 'SETSLOT', slot, 'MIGRATING', toId);
    return {
      to,
      async moveKeys() {
        for (;;) {
          const keys = (await from.send('CLUSTER', 'GETKEYSINSLOT', slot, 100)).split('\n').filter((key) => key !== '');
          if (keys.length === 0) return;
          await from.send('MIGRATE', '127.0.0.1', to.port, '', 0, 5_000, 'KEYS', ...keys);
        }
      },
      end: async () => {
        await to.send('CLUSTER', 'SETSLOT', slot, 'NODE', toId);
        for (const server of this.servers) await server.send('CLUSTER', 'SETSLOT', slot, 'NODE', toId);
      },
    };
  }

  async dispose(): Promise<void> {
    await Promise.all(this.servers.map((server) => server.dispose()));
  }
}

/** The slot of a key: of its hash tag, where it has one. */
export function slotOf(key: string): number {
  const tag = /\{([^}]+)\}/.exec(key)?.[1];
  return crc16(tag ?? key) % SLOTS;
}
