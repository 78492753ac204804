import { RedisKeys } from '../../lib/brokers/redis-keys.js';
import type { LogSurgery } from '../../lib/testing/log-surgery.js';

/** Sends a command to whichever server has the key. */
export type Send = (...command: (string | number)[]) => Promise<string>;

/** Surgery on the logs in Redis, command by command; `wipe` is the store's own. */
export function redisSurgery(prefix: string, send: Send, wipe: () => Promise<unknown>): LogSurgery {
  const keys = new RedisKeys(prefix, 256);
  return {
    async wipe() {
      await wipe();
    },
    async trim(channel) {
      await send('DEL', keys.stream(channel));
    },
    async diverge(channel, toOffset) {
      const [meta, stream] = [keys.meta(channel), keys.stream(channel)];
      const entries = (await send('XRANGE', stream, '-', '+')).match(/^\d+-\d+$/gm) ?? [];
      let tag = '0';
      for (const id of entries) {
        const [offset, seq] = id.split('-').map(Number) as [number, number];
        if (offset <= toOffset) tag = seq.toString(36);
        else await send('XDEL', stream, id);
      }
      // A copy that lagged behind knows no later id either.
      await send('XSETID', stream, toOffset === 0 ? '0-0' : `${toOffset}-${parseInt(tag, 36)}`);
      await send('HSET', meta, 'o', toOffset, 't', toOffset === 0 ? '0' : tag);
      const fields = (await send('HGETALL', meta)).split('\n');
      for (let i = 0; i < fields.length; i += 2) {
        const offset = Number(/^\d+ (\d+)-/.exec(fields[i + 1]!)?.[1]);
        if (fields[i]!.startsWith('k:') && offset > toOffset) await send('HDEL', meta, fields[i]!);
      }
    },
  };
}
