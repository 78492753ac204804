// What it costs that a node counts what it does, and that it is traced where nothing is sampled: each beside the same without,
// and beside itself, which tells how much processes differ anyway. Fresh processes each time: no two are alike.
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { root } from '../../scripts/run.mjs';
import { closeAll, openAll, takeTurns } from '../support/rounds.mjs';
import { median, spread } from '../support/statistics.mjs';
import { REALTIME } from '../support/subjects.mjs';
import { echoRound } from './echo.mjs';
import { fanOutRound } from './fan-out.mjs';

const ECHOES = [1, 16].map((depth) => ({
  name: `echo, ${depth} in flight`,
  connections: 100,
  round: echoRound(depth),
}));
const FAN_OUTS = [1, 8].map((perTurn) => ({
  name: `fan-out, ${perTurn} per turn`,
  connections: 1_000,
  round: fanOutRound(perTurn, 1_000),
}));

const subject = (name, env) => ({ ...REALTIME, name, env });
const UNCOUNTED = { BENCH_COUNTS: 'nothing' };
const TRACES = { BENCH_TRACES: 'there' };
const GROUPS = [
  {
    base: subject('nothing counted', UNCOUNTED),
    others: [subject('counted', {}), subject('nothing counted, again', UNCOUNTED)],
    loads: [...ECHOES, ...FAN_OUTS],
  },
  {
    base: subject('OpenTelemetry, and no tracing', TRACES),
    others: [
      subject('traced, nothing sampled', { BENCH_TRACES: 'traced' }),
      subject('OpenTelemetry, and no tracing, again', TRACES),
      subject('no OpenTelemetry', {}),
    ],
    loads: ECHOES,
  },
];

/** The CPU time of each subject to that of its base: a median of rounds for each start of the processes. */
export async function counting({ starts = 6, rounds = 5, warmUps = 2 } = {}) {
  const results = [];
  for (const { base, others, loads } of GROUPS) {
    const ratios = new Map();
    for (let start = 0; start < starts; start++) {
      for (const connections of new Set(loads.map((load) => load.connections))) {
        // Whoever starts first is not always the same.
        const subjects = start % 2 === 0 ? [base, ...others] : [...others.toReversed(), base];
        const running = await openAll(subjects, connections);
        for (const load of loads.filter((one) => one.connections === connections)) {
          const measured = await takeTurns(running, { rounds, warmUps, reference: base }, load.round);
          const micros = ({ name }) => measured.find((one) => one.name === name).samples.map((sample) => sample.micros);
          const bases = micros(base);
          for (const other of others) {
            const key = `${load.name}|${other.name}`;
            const own = micros(other).map((value, round) => value / bases[round]);
            ratios.set(key, [...(ratios.get(key) ?? []), median(own)]);
          }
        }
        await closeAll(running);
      }
    }
    for (const [key, values] of ratios) {
      const [load, name] = key.split('|');
      results.push({ load, name, base: base.name, ratio: spread(values), values });
    }
  }
  return results;
}

const FRAMES = 1_000_000;

/** What is counted of a frame and its answer, and of a delivery, alone: ns of CPU time of this process. */
export async function countingAlone({ rounds = 15, warmUps = 5 } = {}) {
  const { Meter } = await import(pathToFileURL(path.join(root, 'dist/esm/hub/ports/meter.js')).href);
  const meter = new Meter();
  meter.know(['echo', 'other'], ['bench.:name']);
  const channel = meter.channel('bench.:name');
  const names = Array.from({ length: 64 }, () => JSON.parse('{"event":"echo"}').event); // as frames bring them
  const subjects = [
    {
      name: 'a frame and its answer',
      run(i) {
        const tally = meter.event(names[i & 63]);
        tally.add(100);
        const begun = tally.begin();
        meter.sent.answer.add(90);
        if (begun > 0) tally.end(begun);
      },
    },
    {
      name: 'a delivery',
      run() {
        channel.delivered += 1;
        channel.bytes += 200;
      },
    },
  ].map((subject) => ({ ...subject, samples: [] }));
  for (let round = -warmUps; round < rounds; round++) {
    for (const { run, samples } of subjects) {
      const before = process.cpuUsage();
      for (let i = 0; i < FRAMES; i++) run(i);
      const { user, system } = process.cpuUsage(before);
      if (round >= 0) samples.push(((user + system) * 1000) / FRAMES);
    }
  }
  return subjects.map(({ name, samples }) => ({ name, nanos: spread(samples) }));
}
