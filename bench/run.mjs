// `npm run bench`: everything, against peers. `npm run bench -- fan-out streams transports echo handshakes idle channels limits counting
// redis storm restart` runs a part; `--quick` fewer rounds and peers.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, totalmem } from 'node:os';
import path from 'node:path';
import { build } from '../scripts/build.mjs';
import { root } from '../scripts/run.mjs';
import { channels } from './scenarios/channels.mjs';
import { counting, countingAlone } from './scenarios/counting.mjs';
import { echo } from './scenarios/echo.mjs';
import { fanOut, fanOutToStreams } from './scenarios/fan-out.mjs';
import { handshakes } from './scenarios/handshakes.mjs';
import { idle } from './scenarios/idle.mjs';
import { limits } from './scenarios/limits.mjs';
import { acrossRedis } from './scenarios/redis.mjs';
import { restart } from './scenarios/restart.mjs';
import { storm } from './scenarios/storm.mjs';
import { transports } from './scenarios/transports.mjs';
import { generatorName, pinned, pinSelf } from './support/processes.mjs';
import { show, spread, table } from './support/statistics.mjs';
import {
  BETTER_SSE,
  PLATFORM_WS,
  REALTIME,
  REALTIME_SSE,
  REDIS_BARE_EACH,
  REDIS_HISTORY,
  REDIS_SOCKET_IO,
} from './support/subjects.mjs';

const wanted = process.argv.slice(2).filter((argument) => !argument.startsWith('-'));
const quick = process.argv.includes('--quick');
const runs = (name) => wanted.length === 0 || wanted.includes(name);

if (process.env.BENCH_LIBRARY === undefined) await build();
pinSelf();

const machine = describe();
console.log(machine.text);
const results = { at: new Date().toISOString(), machine };

if (runs('fan-out')) {
  results.fanOut = await fanOut(quick ? { rounds: 3, warmUps: 1 } : {});
  for (const { perTurn, sockets, subjects } of results.fanOut) {
    console.log(`\nFan-out to ${sockets} sockets, ${perTurn} per turn\n\n${costs(subjects, 'delivery')}`);
  }
}
if (runs('streams')) {
  results.streams = await fanOutToStreams(quick ? { rounds: 3, warmUps: 1 } : {});
  for (const { perTurn, sockets, subjects } of results.streams) {
    const rows = costs(subjects, 'delivery', '@Sse');
    console.log(`\nFan-out to ${sockets} event streams, ${perTurn} per turn\n\n${rows}`);
    const toBetterSse = ratioOf(subjects, BETTER_SSE, REALTIME_SSE, ({ micros }) => micros);
    console.log(`\nto better-sse: ${show(toBetterSse)}`);
  }
}
if (runs('transports')) {
  results.transports = await transports(quick ? { rounds: 2, seconds: 2 } : {});
  const { peers, perSecond, waiting, transports: measured } = results.transports;
  const rows = measured.map(({ name, p50Ms, p99Ms, micros, bytes, idleMicros }) => [
    name,
    show(p50Ms),
    show(p99Ms),
    show(micros, 1),
    (bytes / 1024).toFixed(1),
    idleMicros.toFixed(1),
  ]);
  console.log(`\n${peers} peers, ${perSecond} publications a second; of ${waiting} peers that wait, each\n`);
  const head = ['', 'p50, ms', 'p99, ms', 'CPU µs per delivery', 'waiting: KB RSS', 'waiting: CPU µs per second'];
  console.log(table(head, rows));
}
if (runs('echo')) {
  results.echo = await echo(quick ? { rounds: 3, warmUps: 1 } : {});
  for (const { depth, connections, subjects } of results.echo) {
    console.log(`\nEcho, ${connections} connections, ${depth} in flight on each\n\n${costs(subjects, 'answer')}`);
    console.log(`\nto @nestjs/platform-ws: ${show(toPlatform(subjects))}`);
  }
}
if (runs('handshakes')) {
  results.handshakes = await handshakes(quick ? { rounds: 3, warmUps: 1 } : {});
  const { connections, subjects, verification } = results.handshakes;
  const rows = subjects.map(({ name, microsPerHandshake, ratio }) => [name, show(microsPerHandshake, 1), show(ratio)]);
  console.log(`\n${connections} handshakes\n`);
  console.log(table(['', 'CPU µs each', 'per CPU second to plain ws'], rows));
  console.log(`\nverifying the token alone: ${show(verification, 1)} µs`);
}
if (runs('idle')) {
  results.idle = await idle(quick ? { rounds: 2 } : {});
  const rows = results.idle.map(({ name, bytes, heap, ratio }) => [name, show(bytes, 0), show(heap, 0), show(ratio)]);
  console.log(`\n${results.idle[0].connections} idle connections\n`);
  console.log(table(['', 'RSS, bytes each', 'heap, bytes each', 'to plain ws'], rows));
}
if (runs('limits')) {
  results.limits = await limits(quick ? { rounds: 5, warmUps: 2 } : {});
  const rows = results.limits.map(({ name, nanosPerFrame }) => [name, show(nanosPerFrame, 0)]);
  console.log(`\nThe limit of frames\n\n${table(['', 'ns per frame'], rows)}`);
}
if (runs('counting')) {
  results.countingAlone = await countingAlone();
  const alone = results.countingAlone.map(({ name, nanos }) => [name, show(nanos, 1)]);
  console.log(`\nWhat is counted, alone\n\n${table(['', 'ns'], alone)}`);
  results.counting = await counting(quick ? { starts: 2, rounds: 3, warmUps: 2 } : {});
  const rows = results.counting.map(({ load, name, base, ratio }) => [load, name, base, show(ratio, 3)]);
  console.log(`\nWhat counting and tracing cost\n\n${table(['', 'CPU time of', 'to', 'ratio'], rows)}`);
}
if (runs('channels')) {
  results.channels = await channels(quick ? { many: 20_000, rounds: 1 } : {});
  const { rows, few, many, subscribe, publish } = results.channels;
  const cells = rows.map((row) => [
    String(row.channels),
    show(row.subscribe, 1),
    show(row.publish, 1),
    show(row.heap, 0),
    show(row.rss, 0),
  ]);
  console.log('\nOne subscriber in each channel\n');
  console.log(table(['channels', 'subscribe, µs CPU', 'publish, µs CPU', 'heap, bytes', 'RSS, bytes'], cells));
  console.log(`\n${many} to ${few}: subscribe ${show(subscribe)}, publish ${show(publish)}`);
}
if (runs('redis')) {
  results.redis = [];
  for (const sockets of [10, 1]) {
    const result = await acrossRedis({ sockets, ...(quick ? { rounds: 3, warmUps: 1 } : {}) });
    results.redis.push(result);
    const peers = `Redis ${result.redis}, ${sockets} ${sockets === 1 ? 'socket' : 'sockets'} on the other node`;
    for (const { perTurn, subjects } of result.bursts) {
      console.log(`\n${peers}, ${perTurn} per turn\n\n${parts(subjects)}`);
      console.log(`\npublishing with history to a bare publish each: ${show(toBarePublish(subjects))}`);
    }
    for (const { perSecond, subjects } of result.paced) {
      const delays = subjects.map((subject) => {
        const ratio = ratioOf(subjects, subject, REDIS_SOCKET_IO, ({ p99 }) => p99);
        return [subject.name, show(subject.p50Ms), show(subject.p99Ms), show(ratio)];
      });
      console.log(`\n${peers}, ${perSecond} publications a second\n\n${parts(subjects)}\n`);
      console.log(table(['', 'p50, ms', 'p99, ms', 'p99 to socket.io’s'], delays));
    }
  }
}

if (runs('storm')) {
  results.storm = await storm(quick ? { clients: 1_000, seconds: 30 } : {});
  const { clients, seconds, subjects } = results.storm;
  const rows = subjects.map(
    ({ name, expected, missing, repeated, gaveUp, replays, p50Ms, p95Ms, p99Ms, cpuSeconds }) => [
      name,
      `${((1 - missing / expected) * 100).toFixed(3)} %`,
      String(repeated),
      String(gaveUp),
      String(replays),
      ...[p50Ms, p95Ms, p99Ms].map((ms) => ms.toFixed(0)),
      cpuSeconds.toFixed(1),
    ],
  );
  console.log(`\n${clients} clients, each cut off every 15 s for 2 s, ${seconds} s long\n`);
  const head = ['', 'delivered', 'repeated', 'gave up', 'replays', 'p50, ms', 'p95, ms', 'p99, ms', 'server, CPU s'];
  console.log(table(head, rows));
}
if (runs('restart')) {
  results.restart = await restart(quick ? { clients: 300 } : {});
  const { clients, nodes, handshakesPerSecond, subjects } = results.restart;
  const rows = subjects.map(({ name, missing, repeated, gaveUp, behind, p50Ms, p99Ms, maxMs, peak, seconds }) => [
    name,
    ...[missing, repeated, gaveUp, behind].map(String),
    ...[p50Ms, p99Ms, maxMs].map((ms) => (ms / 1000).toFixed(1)),
    String(peak),
    seconds.toFixed(0),
  ]);
  console.log(
    `\n${nodes} nodes restarted behind nginx, ${clients} clients; at most ${handshakesPerSecond} handshakes a second and node\n`,
  );
  const head = [
    '',
    'lost',
    'repeated',
    'gave up',
    'not back',
    'gap p50, s',
    'p99, s',
    'max, s',
    'handshakes/s',
    'took, s',
  ];
  console.log(table(head, rows));
}

const folder = path.join(root, 'bench/results');
mkdirSync(folder, { recursive: true });
const file = path.join(folder, `${results.at.replaceAll(':', '-').slice(0, 19)}.json`);
writeFileSync(file, `${JSON.stringify(results, null, 2)}\n`);
console.log(
  `\nload average ${loadavg()
    .map((load) => load.toFixed(2))
    .join(' ')} · ${path.relative(root, file)}`,
);

function costs(subjects, unit, reference = 'plain ws') {
  const rows = subjects.map(({ name, microsPerMessage, ratio, systemShare, loadShare, bytesPerMessage }) => [
    name,
    show(microsPerMessage),
    show(ratio),
    `${(systemShare.median * 100).toFixed(0)} %`,
    String(bytesPerMessage),
    `${(loadShare.median * 100).toFixed(0)} %`,
  ]);
  return table(
    ['', `CPU µs per ${unit}`, `per CPU second to ${reference}`, 'in the kernel', 'bytes', 'load generator'],
    rows,
  );
}

function parts(subjects) {
  const rows = subjects.map(({ name, microsPerMessage, ratio, publishing, serving, redis, bytesPerMessage }) => [
    name,
    show(microsPerMessage),
    show(ratio),
    publishing.median.toFixed(1),
    serving.median.toFixed(1),
    redis.median.toFixed(1),
    String(bytesPerMessage),
  ]);
  return table(
    ['', 'CPU µs per publication', 'per CPU second to socket.io', 'publisher', 'peers’ node', 'Redis', 'bytes'],
    rows,
  );
}

function toPlatform(subjects) {
  return ratioOf(subjects, PLATFORM_WS, REALTIME, ({ micros }) => micros);
}

function toBarePublish(subjects) {
  return ratioOf(subjects, REDIS_BARE_EACH, REDIS_HISTORY, ({ spent, messages }) => spent.publishing / messages);
}

/** Ratios within rounds, as those of the tables are. */
function ratioOf(subjects, over, under, cost) {
  const samples = ({ name }) => subjects.find((subject) => subject.name === name).samples;
  return spread(samples(over).map((sample, round) => cost(sample) / cost(samples(under)[round])));
}

function describe() {
  const version = (name) => JSON.parse(readFileSync(path.join(root, `node_modules/${name}/package.json`))).version;
  const versions = Object.fromEntries(
    ['ws', '@nestjs/core', '@nestjs/platform-ws', 'better-sse', 'socket.io', '@socket.io/redis-adapter', 'ioredis'].map(
      (name) => [name, version(name)],
    ),
  );
  const facts = {
    node: process.version,
    cpu: cpus()[0].model,
    cores: cpus().length, // those that this process is not pinned to count too
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    pinned,
    load: generatorName(),
    versions,
    loadAverage: loadavg()[0],
  };
  const text = [
    `Node ${facts.node} · ${facts.cpu}, ${facts.cores} cores, ${facts.memoryGiB} GiB`,
    Object.entries(versions)
      .map((entry) => entry.join(' '))
      .join(' · '),
    `servers on one core, load generator (${facts.load}) on another: ${pinned ? 'yes' : 'no, taskset is missing'}`,
    `load average before: ${facts.loadAverage.toFixed(2)}${facts.loadAverage > 0.5 ? ' — the machine is busy' : ''}`,
  ].join('\n');
  return { ...facts, text };
}
