// The transports side by side: how late messages come over each, what a delivery costs, and what a peer costs that waits.
import { setTimeout as sleep } from 'node:timers/promises';
import { Peers, Server } from '../support/processes.mjs';
import { spread } from '../support/statistics.mjs';
import { REALTIME } from '../support/subjects.mjs';

const TRANSPORTS = ['websocket', 'sse', 'long-polling'];
/** Twice the time between heartbeats, and of a poll. */
const IDLE_MS = 50_000;

export async function transports({ peers = 50, perSecond = 20, seconds = 5, rounds = 7, waiting = 2_000 } = {}) {
  const running = [];
  for (const name of TRANSPORTS) running.push(await open(name, peers));
  for (let round = -2; round < rounds; round++) {
    for (const { server, load, samples } of running) {
      const count = perSecond * seconds;
      const before = await server.ask('usage');
      await server.ask('pace', { perSecond, count });
      const { delays } = await load.ask('delays', { count: count * peers });
      const after = await server.ask('usage');
      if (delays.length !== count * peers) throw new Error(`${delays.length} messages instead of ${count * peers}`);
      const at = (share) => delays[Math.floor(delays.length * share)] / 1000;
      const sample = { p50: at(0.5), p99: at(0.99), micros: (after.cpu - before.cpu) / delays.length };
      if (round >= 0) samples.push(sample);
    }
  }
  for (const one of running) await stop(one);
  const idle = [];
  for (const name of TRANSPORTS) idle.push(await waits(name, waiting));
  return {
    peers,
    perSecond,
    waiting,
    transports: running.map(({ name, samples }, i) => {
      const of = (what) => spread(samples.map((sample) => sample[what]));
      return { name, p50Ms: of('p50'), p99Ms: of('p99'), micros: of('micros'), ...idle[i] };
    }),
  };
}

async function open(name, count) {
  const server = await Server.start(REALTIME.server, { env: { BENCH_HEARTBEAT_MS: '25000' } });
  const before = await server.ask('memory');
  const load = Peers.start('peers');
  await load.ask('open', { transport: name, port: server.port, count });
  return { name, server, load, before, samples: [] };
}

/** CPU time and memory of a peer to which nothing is told. */
async function waits(name, count) {
  const one = await open(name, count);
  const { server, before } = one;
  const memory = await server.ask('memory');
  const from = await server.ask('usage');
  await sleep(IDLE_MS);
  const to = await server.ask('usage');
  await stop(one);
  return {
    bytes: (memory.rss - before.rss) / count,
    idleMicros: (to.cpu - from.cpu) / count / ((to.at - from.at) / 1000),
  };
}

async function stop({ server, load }) {
  await load.stop();
  await server.stop();
}
