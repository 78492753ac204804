// Memory of connections that do nothing: RSS after garbage collection, per connection. Every server is fresh.
import { Load, Server } from '../support/processes.mjs';
import { spread } from '../support/statistics.mjs';
import { PLATFORM_WS, REALTIME, WS } from '../support/subjects.mjs';

export async function idle({ connections = 10_000, rounds = 5, subjects = [REALTIME, WS, PLATFORM_WS] } = {}) {
  const samples = new Map(subjects.map((subject) => [subject, []]));
  for (let round = 0; round < rounds; round++) {
    for (const subject of subjects) samples.get(subject).push(await measure(subject, connections));
  }
  const base = samples.get(WS);
  return subjects.map((subject) => {
    const own = samples.get(subject);
    return {
      name: subject.name,
      connections,
      bytes: spread(own.map(({ rss }) => rss)),
      heap: spread(own.map(({ heap }) => heap)),
      ratio: spread(own.map(({ rss }, round) => rss / base[round].rss)),
      samples: own,
    };
  });
}

async function measure(subject, connections) {
  const server = await Server.start(subject.server, { env: { BENCH_GATEWAYS: '1' } });
  const load = Load.start();
  const before = await server.ask('memory');
  await load.open(server.port, connections, subject.dialect);
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const after = await server.ask('memory');
  await load.stop();
  await server.stop();
  return {
    rss: (after.rss - before.rss) / connections,
    heap: (after.heapUsed - before.heapUsed) / connections,
    external: (after.external - before.external) / connections,
  };
}
