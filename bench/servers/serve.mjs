// What every server of the bench has in common: it is told by IPC messages and answers them.
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import { writeHeapSnapshot } from 'node:v8';
import { performance } from 'node:perf_hooks';

/** The same turn loop for all: `perTurn` publications in each of `turns` turns of the event loop. */
async function publish(publishOne, perTurn, turns) {
  for (let i = 0; i < turns; i++) {
    for (let j = 0; j < perTurn; j++) publishOne(DATA);
    await turn();
  }
}

/** `count` publications, `perSecond` of them each in a turn of its own, that tell when they were made, numbered from `from`. */
async function pace(publishOne, { perSecond, count, from = 0 }) {
  const start = performance.now();
  for (let i = 0; i < count; i++) {
    const wait = start + (i * 1000) / perSecond - performance.now();
    if (wait > 0) await sleep(wait);
    publishOne(stamped(from + i));
  }
  const left = start + (count * 1000) / perSecond - performance.now();
  if (left > 0) await sleep(left);
}

/** A command: the most that a count has grown in a second, since the command before. */
export function peakOf(count) {
  let peak = 0;
  let before = count();
  setInterval(() => {
    const now = count();
    peak = Math.max(peak, now - before);
    before = now;
  }, 1_000);
  return () => {
    const answer = peak;
    peak = 0;
    return answer;
  };
}

async function memory() {
  for (let i = 0; i < 4; i++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    globalThis.gc();
  }
  return process.memoryUsage();
}

/** Tells the port and obeys: `publish`, `pace`, `usage`, `memory`, `snapshot`, and commands of the server's own. The server ends with its parent. */
export function serve(port, publishOne, own = {}) {
  const commands = {
    ...own,
    publish: ({ perTurn, turns }) => publish(publishOne, perTurn, turns),
    pace: (how) => pace(publishOne, how),
    usage: () => {
      const { user, system } = process.cpuUsage();
      return { cpu: user + system, user, system, at: performance.now() };
    },
    memory,
    snapshot: ({ file }) => writeHeapSnapshot(file),
    end: () => setImmediate(() => process.exit(0)), // in order, so that --cpu-prof writes its file
  };
  process.on('message', async ({ id, command, ...rest }) => {
    process.send({ id, answer: await commands[command](rest) });
  });
  process.on('disconnect', () => process.exit(0));
  process.send({ port });
}

/** Digits of a stamp, as the load generator reads them. */
const STAMP_DIGITS = 16;

/** 128 bytes of data, as JSON text with its quotes. */
export const DATA = 'x'.repeat(126);

/** The same length, with the monotonic time in µs, which is one clock for all processes of the machine, and a number. */
function stamped(number) {
  const micros = process.hrtime.bigint() / 1000n;
  return `@${String(micros).padStart(STAMP_DIGITS, '0')}@#${number}#${DATA}`.slice(0, DATA.length);
}
