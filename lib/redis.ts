export { redisBroker } from './brokers/redis.broker.js';
export type { RedisBrokerOptions } from './brokers/redis-options.js';
