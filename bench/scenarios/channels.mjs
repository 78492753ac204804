// Whether cost stays flat: few and many channels on one node, one subscriber each, on Redis with the default history.
import { Load, Server } from '../support/processes.mjs';
import { RedisServer } from '../support/redis.mjs';
import { spread } from '../support/statistics.mjs';
import { REALTIME } from '../support/subjects.mjs';

/** As many as a connection may have by default, nearly. */
const CHANNELS_PER_PEER = 100;
/** What makes the code hot first, on channels of its own: so many, so many times. */
const WARM_CHANNELS = 1_000;
const WARM_TIMES = 8;

export async function channels({ few = 1_000, many = 100_000, rounds = 5 } = {}) {
  const redis = await RedisServer.start();
  const samples = { few: [], many: [] };
  for (let round = 0; round < rounds; round++) {
    samples.few.push(await measure(redis, `few${round}`, few, Math.min(20, many / few)));
    samples.many.push(await measure(redis, `many${round}`, many, 1));
  }
  await redis.stop();
  const ratio = (name) => spread(samples.many.map((sample, round) => sample[name] / samples.few[round][name]));
  return {
    few,
    many,
    samples,
    subscribe: ratio('subscribe'),
    publish: ratio('publish'),
    rows: ['few', 'many'].map((size) => ({
      channels: { few, many }[size],
      ...Object.fromEntries(
        ['subscribe', 'publish', 'heap', 'rss'].map((name) => [name, spread(samples[size].map((one) => one[name]))]),
      ),
    })),
  };
}

/** `times`: how often it is done, on other channels where it is subscribing, so that few make a sample too. */
async function measure(redis, prefix, count, times) {
  const server = await Server.start('channels', { env: { BENCH_REDIS_URL: redis.url, BENCH_PREFIX: prefix } });
  const load = Load.start();
  const { path, trigger } = REALTIME.dialect;
  await load.open(server.port, count / CHANNELS_PER_PEER, { path, trigger });
  const warm = { from: count * times, count: WARM_CHANNELS };
  for (let i = 0; i < WARM_TIMES; i++) {
    await server.ask('subscribe', warm);
    for (let j = 0; j < 2; j++) await publish(server, load, warm);
    await server.ask('unsubscribe', warm);
  }
  const before = await server.ask('memory');
  let subscribed = await cost(server, () => server.ask('subscribe', { from: 0, count }));
  const after = await server.ask('memory');
  const published = await cost(server, async () => {
    for (let i = 0; i < times; i++) await publish(server, load, { from: 0, count });
  });
  for (let i = 1; i < times; i++) {
    await server.ask('unsubscribe', { from: (i - 1) * count, count });
    subscribed += await cost(server, () => server.ask('subscribe', { from: i * count, count }));
  }
  await load.stop();
  await server.stop();
  return {
    subscribe: subscribed / (count * times),
    publish: published / (count * times),
    heap: (after.heapUsed - before.heapUsed) / count,
    rss: (after.rss - before.rss) / count,
  };
}

async function publish(server, load, range) {
  const arrived = load.count(range.count);
  await server.ask('publishEach', range);
  await arrived;
}

async function cost(server, act) {
  const { cpu } = await server.ask('usage');
  await act();
  return (await server.ask('usage')).cpu - cpu;
}
