// A rolling restart: three nodes behind nginx, restarted one after another under a stream that must reach every client whole.
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync, chmodSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { needNginx } from '../../scripts/nginx.mjs';
import { root } from '../../scripts/run.mjs';
import { freePort } from '../../scripts/services.mjs';
import { Peers, Server, startBeside } from '../support/processes.mjs';
import { RedisServer } from '../support/redis.mjs';

const NODES = 3;
/** How many handshakes a node of this library takes in a second; it may begin twice as many at once. */
const HANDSHAKES = 500;
const PAUSE_MS = 3_000;
/** How long all may take to be back in the end. */
const SETTLE_MS = 60_000;

const SUBJECTS = [
  { name: 'nestjs-realtime', kind: 'realtime', server: 'cluster-realtime' },
  { name: 'socket.io, state recovery, Redis streams', kind: 'socketIo', server: 'cluster-socket-io' },
];

export async function restart({ clients = 3_000, perSecond = 5 } = {}) {
  const subjects = [];
  for (const subject of SUBJECTS) subjects.push(await rollOver(subject, clients, perSecond));
  return { clients, nodes: NODES, perSecond, handshakesPerSecond: HANDSHAKES, subjects };
}

async function rollOver({ name, kind, server }, clients, perSecond) {
  const redis = await RedisServer.start();
  const env = { BENCH_REDIS_URL: redis.url, BENCH_HANDSHAKES: String(HANDSHAKES) };
  const startNode = (port) => Server.start(server, { env: { ...env, BENCH_PORT: String(port) } });
  const ports = [];
  for (let i = 0; i <= NODES; i++) ports.push(await freePort(0));
  const [proxyPort, ...nodePorts] = ports;
  const nodes = await Promise.all(nodePorts.map(startNode));
  const publisher = await startNode(0);
  const proxy = await startProxy(proxyPort, nodePorts);
  const load = Peers.start('swarm');
  await load.ask('open', { kind, port: proxyPort, count: clients });
  for (const node of nodes) await node.ask('peak'); // of the opening, which is not what is asked for

  let isOver = false;
  const published = (async () => {
    let count = 0;
    for (; !isOver; count += perSecond) await publisher.ask('pace', { perSecond, count: perSecond, from: count });
    return count;
  })();
  const began = performance.now();
  const peaks = [];
  await sleep(PAUSE_MS);
  for (const [i, port] of nodePorts.entries()) {
    peaks.push(await nodes[i].ask('peak'));
    const ended = once(nodes[i].child, 'exit');
    nodes[i].child.kill('SIGTERM');
    await ended;
    nodes[i] = await startNode(port);
    await sleep(PAUSE_MS);
  }
  isOver = true;
  const count = await published;
  const seconds = (performance.now() - began) / 1000;
  const report = await load.ask('report', { count, withinMs: SETTLE_MS });
  const { gaps, missing, repeated, gaveUp, behind, expected } = report;
  for (const node of nodes) peaks.push(await node.ask('peak'));
  const at = (share) => gaps[Math.floor(gaps.length * share)] / 1000;
  await load.stop();
  for (const node of [...nodes, publisher]) await node.stop();
  await proxy.stop();
  await redis.stop();
  const gap = { p50Ms: at(0.5), p99Ms: at(0.99), maxMs: gaps.at(-1) / 1000 };
  return { name, expected, missing, repeated, gaveUp, behind, ...gap, seconds, peak: Math.max(...peaks) };
}

/** nginx as the sample has it, for these ports and more clients. */
async function startProxy(port, nodes) {
  const directory = mkdtempSync(path.join(tmpdir(), 'bench-nginx-'));
  chmodSync(directory, 0o755); // where root starts nginx, its workers are somebody else
  const text = readFileSync(path.join(root, 'sample/cluster/nginx.conf'), 'utf8');
  const server = (node) => `    server 127.0.0.1:${node} max_fails=0;\n`;
  const config = text
    .replace('listen 3000;', `listen ${port};`)
    .replace(/(?: +server 127\.0\.0\.1:\d+ .*\n)+/, nodes.map(server).join(''))
    .replace(/worker_rlimit_nofile .*\n/, '') // as many as this process may
    .replace('error_log stderr warn', 'error_log stderr crit')
    .replace(/worker_connections \d+/, 'worker_connections 32768');
  const file = path.join(directory, 'nginx.conf');
  writeFileSync(file, config);
  const command = [await needNginx(), '-p', directory, '-e', 'stderr', '-c', file, '-g', 'daemon off;'];
  const child = startBeside(command, { stdio: ['ignore', 'ignore', 'inherit'] });
  while (!(await listens(port))) await sleep(20);
  return {
    async stop() {
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

function listens(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => resolve(true));
    socket.on('error', () => resolve(false)).on('connect', () => socket.destroy());
  });
}
