import { afterAll, beforeAll } from '@jest/globals';
import { KEY_SLACK } from '../../lib/brokers/redis-log-scripts.js';
import { redisBroker } from '../../lib/brokers/redis.broker.js';
import { RedisSentinel } from '../support/redis-sentinel.js';
import { redisSurgery } from '../support/redis-surgery.js';
import { describeBroker } from './broker.conformance.js';

let sentinel: RedisSentinel;
let stores = 0;
beforeAll(async () => {
  sentinel = await RedisSentinel.start();
  // The suite runs on a master that was a replica before.
  await sentinel.failOver();
});
afterAll(() => sentinel.dispose());

describeBroker(
  'redis, Sentinel after a failover',
  () => {
    const prefix = `store-${++stores}`;
    return {
      broker: () => redisBroker({ client: sentinel.client(), prefix }),
      now: Date.now,
      pass: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
      surgery: redisSurgery(
        prefix,
        async (...command) => (await sentinel.master()).send(...command),
        async () => (await sentinel.master()).send('FLUSHALL'),
      ),
      dispose: () => Promise.resolve(),
    };
  },
  { time: 'real', unitMs: 40, surgery: true, keySlack: KEY_SLACK + 100 },
);
