import { afterAll, beforeAll } from '@jest/globals';
import { redisBroker } from '../../lib/brokers/redis.broker.js';
import { RedisServer } from '../support/redis-server.js';
import { describeTransport } from './transport.conformance.js';
import { longPolling } from './wires/long-polling.wire.js';
import { sse } from './wires/sse.wire.js';
import { sseWithPass } from './wires/sse-with-pass.wire.js';
import { websocket } from './wires/websocket.wire.js';

let server: RedisServer;
let stores = 0;
beforeAll(async () => {
  server = await RedisServer.start();
});
afterAll(() => server.dispose());

for (const wire of [websocket, sse, sseWithPass, longPolling]) {
  describeTransport(wire, 'redis', () => redisBroker({ url: server.url, prefix: `store-${++stores}` }));
}
