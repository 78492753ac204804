// Whether memory and handles stay flat: `node bench/soak.mjs [--minutes 20] [--peers 60]`. Peers come and go over all
// transports, on a node with the memory broker and on two that Redis joins, all at the same time. See README.md.
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { build } from '../scripts/build.mjs';
import { root } from '../scripts/run.mjs';
import { Peers, pinSelf, Server } from './support/processes.mjs';
import { RedisServer } from './support/redis.mjs';
import { median, table } from './support/statistics.mjs';

const { values: given } = parseArgs({
  options: { minutes: { type: 'string', default: '20' }, peers: { type: 'string', default: '60' } },
});
const minutes = Number(given.minutes);
const peers = Number(given.peers);
if (!(minutes > 0) || !Number.isInteger(peers) || peers < 1) throw new RangeError('--minutes and --peers are numbers');

/** Samples of a run. */
const SAMPLES = 120;
const LEAST_INTERVAL_MS = 1_000;
/** What may be looked at once all have left: keep-alive, records of who was cut off, channels that nobody follows. */
const LEAVE_MS = 120_000;

/** How much each may grow over the last half, as a part of its median there, or by so much: its noise. */
const FLAT = {
  heapBytes: { part: 0.05, least: 1_000_000 },
  rssBytes: { part: 0.05, least: 5_000_000 },
  externalBytes: { part: 0.1, least: 1_000_000 },
  resources: { part: 0.1, least: 10 },
};
/** Files that nodes have open more than their peers do, whose sockets come and go with what they are doing. */
const FLAT_FILES = { part: 0.1, least: 10 };
/** What has to be as it was before anybody came. */
const COUNTS = ['connections', 'registered', 'channels', 'subscriptions', 'members', 'outboxBytes'];
/** Handles may be some more: sockets to Redis, of the inspector, of DNS. */
const MORE_HANDLES = 4;

await build();
pinSelf();
const redis = await RedisServer.start();
const nodes = [
  { name: 'memory', server: await Server.start('soak') },
  { name: 'redis 1', server: await Server.start('soak', { env: { BENCH_REDIS_URL: redis.url } }) },
  { name: 'redis 2', server: await Server.start('soak', { env: { BENCH_REDIS_URL: redis.url } }) },
].map((node) => ({ ...node, samples: [] }));
for (const node of nodes) node.first = await node.server.ask('look');

const load = { memory: Peers.start('soak-peers'), redis: Peers.start('soak-peers') };
await load.memory.ask('start', { ports: [nodes[0].server.port], peers });
await load.redis.ask('start', { ports: nodes.slice(1).map(({ server }) => server.port), peers });

const theirs = { memory: [], redis: [] };
const lengthMs = minutes * 60_000;
const intervalMs = Math.max(LEAST_INTERVAL_MS, lengthMs / SAMPLES);
const begun = performance.now();
for (let told = 0; performance.now() - begun < lengthMs;) {
  await sleep(intervalMs);
  for (const node of nodes) node.samples.push({ atMs: performance.now() - begun, ...(await node.server.ask('look')) });
  for (const [name, peersOf] of Object.entries(load)) theirs[name].push((await peersOf.ask('look')).files);
  const passed = Math.floor((performance.now() - begun) / 60_000);
  if (passed > told) console.log(`${(told = passed)} min: ${nodes.map(brief).join(' · ')}`);
}

const lived = { memory: await load.memory.ask('stop'), redis: await load.redis.ask('stop') };
const left = performance.now();
for (const node of nodes) node.last = await node.server.ask('look');
while (nodes.some(({ first, last }) => remains(first, last).length > 0) && performance.now() - left < LEAVE_MS) {
  await sleep(LEAST_INTERVAL_MS);
  for (const node of nodes) node.last = await node.server.ask('look');
}
for (const peersOf of Object.values(load)) await peersOf.stop();
for (const { server } of nodes) await server.stop();
await redis.stop();

const groups = Object.entries(theirs).map(([name, files]) => ({
  name,
  samples: files.map((count, i) => own(name, count, i)),
}));
const rows = [
  ...nodes.flatMap(({ name, samples }) =>
    Object.entries(FLAT).map(([what, bound]) => [name, what, trend(samples, what, bound)]),
  ),
  ...groups.map(({ name, samples }) => [name, 'own files', trend(samples, 'files', FLAT_FILES)]),
];
const show = (what, value) => (what.endsWith('Bytes') ? `${(value / 1e6).toFixed(2)} MB` : value.toFixed(1));
console.log(
  `\n${table(
    ['node', 'what', 'median', 'growth over the last half', 'an hour', ''],
    rows.map(([name, what, { middle, growth, perHour, flat }]) => [
      name,
      what,
      show(what, middle),
      show(what, growth),
      show(what, perHour),
      flat ? 'flat' : 'GROWS',
    ]),
  )}\n`,
);
for (const [name, { lives, calls, failures }] of Object.entries(lived)) {
  console.log(`${name}: ${lives} clients, ${calls} calls, failures ${JSON.stringify(failures)}`);
}
const remaining = nodes.flatMap(({ name, first, last }) => remains(first, last).map((what) => `${name}: ${what}`));
for (const { name, last } of nodes) console.log(`${name}: ${JSON.stringify(last.done)}`);
console.log(remaining.length === 0 ? 'All left, and nothing remains.' : `REMAINS ${remaining.join(', ')}`);

mkdirSync(path.join(root, 'bench/results'), { recursive: true });
const file = path.join(root, 'bench/results', `soak-${new Date().toISOString().replaceAll(':', '-')}.json`);
writeFileSync(
  file,
  JSON.stringify({
    minutes,
    peers,
    lived,
    theirs,
    nodes: nodes.map(({ name, samples, first, last }) => ({ name, samples, first, last })),
  }),
);
const passed = remaining.length === 0 && rows.every(([, , { flat }]) => flat);
console.log(`\n${passed ? 'PASSED' : 'FAILED'} (${minutes} min, ${path.relative(root, file)})`);
process.exitCode = passed ? 0 : 1;

function brief({ name, samples }) {
  const { heapBytes, files, connections } = samples.at(-1);
  return `${name} ${(heapBytes / 1e6).toFixed(1)} MB heap, ${files} files, ${connections} connections`;
}

/** The files of the nodes that peers come to, without those that the peers have open too, in one sample. */
function own(group, theirCount, i) {
  const samples = nodes.filter(({ name }) => name.startsWith(group)).map((node) => node.samples[i]);
  return { atMs: samples[0].atMs, files: samples.reduce((sum, { files }) => sum + files, 0) - theirCount };
}

/** How something goes over the last half: by the median of the slopes between all pairs, which outliers do not move. */
function trend(samples, what, { part, least }) {
  const half = samples.slice(Math.floor(samples.length / 2));
  const slopes = half.flatMap((from, i) =>
    half.slice(i + 1).map((to) => (to[what] - from[what]) / (to.atMs - from.atMs)),
  );
  const middle = median(half.map((sample) => sample[what]));
  const slope = slopes.length === 0 ? NaN : median(slopes);
  const growth = slope * (half.at(-1).atMs - half[0].atMs);
  return { middle, growth, perHour: slope * 3_600_000, flat: growth <= Math.max(least, part * middle) };
}

/** What is not back where it was. */
function remains(first, last) {
  const counts = COUNTS.filter((what) => last[what] !== first[what]);
  const handles = ['resources', 'files'].filter((what) => last[what] > first[what] + MORE_HANDLES);
  return [...counts, ...handles].map((what) => `${what} ${first[what]} → ${last[what]}`);
}
