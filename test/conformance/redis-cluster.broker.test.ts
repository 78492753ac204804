import { afterAll, beforeAll } from '@jest/globals';
import { KEY_SLACK } from '../../lib/brokers/redis-log-scripts.js';
import { redisBroker } from '../../lib/brokers/redis.broker.js';
import { RedisCluster } from '../support/redis-cluster.js';
import { redisSurgery } from '../support/redis-surgery.js';
import { describeBroker } from './broker.conformance.js';
import { describeRecords } from './records.conformance.js';

let cluster: RedisCluster;
let stores = 0;
/** Short, so that what is over is found soon. */
const LEASE_MS = 600;
beforeAll(async () => {
  cluster = await RedisCluster.start();
});
afterAll(() => cluster.dispose());

describeBroker(
  'redis, a cluster of three masters',
  () => {
    const prefix = `store-${++stores}`;
    return {
      broker: () => redisBroker({ client: cluster.client(), prefix }),
      now: Date.now,
      pass: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
      surgery: redisSurgery(
        prefix,
        (...command) => cluster.send(...command),
        () => cluster.sendToAll('FLUSHALL'),
      ),
      dispose: () => Promise.resolve(),
    };
  },
  { time: 'real', unitMs: 60, surgery: true, keySlack: KEY_SLACK + 100 },
);

describeRecords(
  'redis, a cluster of three masters',
  () => {
    const prefix = `store-${++stores}`;
    return {
      broker: () => redisBroker({ client: cluster.client(), prefix, leaseMs: LEASE_MS }),
      pass: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
      dispose: () => Promise.resolve(),
    };
  },
  { unitMs: 100 },
);
