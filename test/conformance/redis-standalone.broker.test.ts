import { afterAll, beforeAll } from '@jest/globals';
import { KEY_SLACK } from '../../lib/brokers/redis-log-scripts.js';
import { redisBroker } from '../../lib/brokers/redis.broker.js';
import { RedisServer } from '../support/redis-server.js';
import { redisSurgery } from '../support/redis-surgery.js';
import { describeBroker } from './broker.conformance.js';
import { describeRecords } from './records.conformance.js';

let server: RedisServer;
let stores = 0;
/** Short, so that what is over is found soon. */
const LEASE_MS = 600;
beforeAll(async () => {
  server = await RedisServer.start();
});
afterAll(() => server.dispose());

describeBroker(
  'redis, one server',
  () => {
    const prefix = `store-${++stores}`;
    return {
      broker: () => redisBroker({ url: server.url, prefix }),
      now: Date.now,
      pass: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
      surgery: redisSurgery(
        prefix,
        (...command) => server.send(...command),
        () => server.send('FLUSHALL'),
      ),
      dispose: () => Promise.resolve(),
    };
  },
  { time: 'real', unitMs: 40, surgery: true, keySlack: KEY_SLACK + 100 },
);

describeRecords(
  'redis, one server',
  () => {
    const prefix = `store-${++stores}`;
    return {
      broker: () => redisBroker({ url: server.url, prefix, leaseMs: LEASE_MS }),
      pass: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
      dispose: () => Promise.resolve(),
    };
  },
  { unitMs: 60 },
);
