// What the children of the chaos tests have in common: settings from the environment, a broker, and commands by IPC.
import 'reflect-metadata';
import { Cluster, Redis } from 'ioredis';
import { redisBroker } from 'nestjs-realtime/redis';

/** What the parent gave: see app.ts. */
export const settings = JSON.parse(process.env.CHAOS_SETTINGS);

/** The options that all nodes of an installation share. */
export function sharedOptions() {
  return {
    broker: redisBroker({ ...source(settings.redis), leaseMs: settings.leaseMs }),
    channels: {
      'feed.:name': { history: { size: 5_000, ttlMs: 600_000 }, presence: true },
      'talk.:name': { history: { size: 5_000, ttlMs: 600_000 }, publish: true },
    },
    presence: { graceMs: settings.graceMs },
    // All peers are this machine, and all come back at once.
    limits: { connectionsPerAddress: false, handshakesPerAddress: false },
  };
}

function source({ url, sentinels, cluster }) {
  if (url) return { url };
  const client = sentinels
    ? new Redis({ sentinels, name: 'realtime', lazyConnect: true })
    : new Cluster(cluster, { lazyConnect: true });
  client.on('error', () => undefined);
  return { client };
}

/** Tells the parent that it is ready, and does what it says; ends with it. */
export function obey(ready, commands) {
  process.on('disconnect', () => process.exit(0));
  process.on('message', async ({ id, command, ...rest }) => {
    try {
      process.send({ id, answer: (await commands[command](rest)) ?? null });
    } catch (error) {
      process.send({ id, error: `${error.code ?? error.name}: ${error.message}` });
    }
  });
  process.send({ ready });
}

process.on('unhandledRejection', (error) => {
  console.error(settings.name, error);
  process.exit(1);
});
