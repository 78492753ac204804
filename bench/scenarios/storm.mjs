// A recovery storm: every client's TCP connection is killed every 15 s or so, and comes back 2 s later, under a stream that
// must reach all of them whole.
import { setTimeout as sleep } from 'node:timers/promises';
import { Peers, Server } from '../support/processes.mjs';
import { REALTIME, SOCKET_IO } from '../support/subjects.mjs';

const OFFLINE_MS = 2_000;
const EVERY_MS = 15_000;
/** How long all may take to be back in the end. */
const SETTLE_MS = 60_000;

const SUBJECTS = [
  { name: REALTIME.name, kind: 'realtime', server: REALTIME.server, env: {} },
  { name: 'socket.io, state recovery', kind: 'socketIo', server: SOCKET_IO.server, env: { BENCH_RECOVERY: '1' } },
];

export async function storm({ clients = 10_000, seconds = 60, perSecond = 1 } = {}) {
  const subjects = [];
  for (const { name, kind, server: file, env } of SUBJECTS) {
    const server = await Server.start(file, { env });
    const load = Peers.start('swarm');
    await load.ask('open', { kind, port: server.port, count: clients, delayMs: OFFLINE_MS });
    const before = await server.ask('usage');
    const count = perSecond * (seconds + OFFLINE_MS / 1000 + 3);
    const paced = server.ask('pace', { perSecond, count });
    await sleep(1_000);
    await load.ask('storm', { everyMs: EVERY_MS, seconds, delayMs: OFFLINE_MS });
    await paced;
    const report = await load.ask('report', { count, withinMs: SETTLE_MS });
    const { replays, missing, repeated, gaveUp, kills, expected } = report;
    const after = await server.ask('usage');
    const at = (share) => (replays[Math.floor(replays.length * share)] ?? NaN) / 1000;
    subjects.push({
      name,
      expected,
      missing,
      repeated,
      gaveUp,
      kills,
      replays: replays.length,
      p50Ms: at(0.5),
      p95Ms: at(0.95),
      p99Ms: at(0.99),
      cpuSeconds: (after.cpu - before.cpu) / 1e6,
    });
    await load.stop();
    await server.stop();
  }
  return { clients, seconds, perSecond, subjects };
}
