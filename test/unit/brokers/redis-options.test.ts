import { describe, expect, test } from '@jest/globals';
import { Cluster, Redis } from 'ioredis';
import { redisBroker } from '../../../lib/brokers/redis.broker.js';
import { resolveRedisOptions, type RedisBrokerOptions } from '../../../lib/brokers/redis-options.js';

const url = 'redis://:secret@127.0.0.1:6379';

describe('redisBroker options', () => {
  test('has defaults for all but where Redis is', () => {
    expect(resolveRedisOptions({ url })).toEqual({
      source: url,
      prefix: 'realtime',
      publishTimeoutMs: 5_000,
      metaTtlMs: 86_400_000,
      leaseMs: 30_000,
      fence: false,
    });
  });

  test('takes a client, and a cluster', () => {
    for (const client of [new Redis({ lazyConnect: true }), new Cluster([{ port: 1 }], { lazyConnect: true })]) {
      expect(resolveRedisOptions({ client }).source).toBe(client);
      client.disconnect();
    }
  });

  test('connects to nothing before it is opened', () => {
    expect(redisBroker({ url })).toMatchObject({ name: 'redis', shared: true });
  });

  test.each<[string, unknown, RegExp]>([
    ['neither url nor client', {}, /give one of `url` and `client`/],
    ['both', { url, client: new Redis({ lazyConnect: true }) }, /give one of/],
    ['another URL', { url: 'http://127.0.0.1' }, /`url` has to be a redis:\/\/ or rediss:\/\/ URL/],
    ['no URL', { url: 'localhost' }, /`url` has to be/],
    ['another client', { client: { get: () => undefined } }, /`client` has to be a Redis or a Cluster of ioredis/],
    ['an empty prefix', { url, prefix: '' }, /`prefix` has to be 1 to 64 characters without braces/],
    ['a prefix with braces', { url, prefix: '{a}' }, /`prefix`/],
    ['no time', { url, publishTimeoutMs: 0 }, /`publishTimeoutMs` has to be a positive number of milliseconds, not 0/],
    ['no number', { url, metaTtlMs: 'day' }, /`metaTtlMs` has to be a positive number of milliseconds, not day/],
    ['another isolation', { url, onIsolation: 'stop' }, /`onIsolation` has to be 'serve' or 'fence', not "stop"/],
  ])('refuses %s', (_, options, message) => {
    expect(() => redisBroker(options as RedisBrokerOptions)).toThrow(message);
  });

  test('names every mistake at once, and no password', () => {
    const options = { url: 'http://:secret@x', prefix: '', publishTimeoutMs: -1 };
    expect(() => redisBroker(options)).toThrow(/`url`.*`prefix`.*`publishTimeoutMs`/);
    expect(() => redisBroker(options)).not.toThrow(/secret/);
  });
});
