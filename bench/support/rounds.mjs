// Subjects side by side: all run at the same time, and take turns within each round, so that what the machine does
// meanwhile meets all alike. Compared is the servers' CPU time, as ratios within a round.
import { Load, Server } from './processes.mjs';
import { spread } from './statistics.mjs';

/** Starts a server and its load generator for each subject, and opens the connections. */
export async function openAll(subjects, connections, options) {
  const running = [];
  for (const subject of subjects) {
    const server = await Server.start(subject.server, { ...options, env: { ...options?.env, ...subject.env } });
    const load = Load.start();
    await load.open(server.port, connections, subject.dialect);
    running.push({ subject, server, load });
  }
  return running;
}

export async function closeAll(running) {
  for (const { load, server } of running) {
    await load.stop();
    await server.stop();
  }
}

/**
 * Runs `work` for each subject in each round; the first rounds warm up. `work` resolves with how many messages came.
 * Gives for each subject CPU µs per message, and the ratio to `reference`: how many messages it makes out of the same
 * CPU time.
 */
export async function takeTurns(running, { rounds, warmUps, reference }, work) {
  const samples = new Map(running.map((one) => [one, []]));
  for (let round = -warmUps; round < rounds; round++) {
    for (const one of running) {
      const sample = await measure(one, work);
      if (round >= 0) samples.get(one).push(sample);
    }
  }
  const base = samples.get(running.find(({ subject }) => subject === reference));
  return running.map((one) => {
    const own = samples.get(one);
    return {
      name: one.subject.name,
      microsPerMessage: spread(own.map(({ micros }) => micros)),
      ratio: spread(own.map(({ micros }, round) => base[round].micros / micros)),
      systemShare: spread(own.map(({ systemShare }) => systemShare)),
      loadShare: spread(own.map(({ loadShare }) => loadShare)),
      bytesPerMessage: Math.round(own[0].bytes / own[0].messages),
      messages: own.reduce((sum, { messages }) => sum + messages, 0),
      samples: own,
    };
  });
}

/** What the counters of `usage` grew by, and what `work` tells; more counters than the server's own may be there. */
async function measure({ server, load }, work) {
  const loadBefore = await load.usage();
  const before = await server.ask('usage');
  const { messages, ...told } = await work(server, load);
  const after = await server.ask('usage');
  const loadAfter = await load.usage();
  await new Promise((resolve) => setTimeout(resolve, 5));
  const surplus = await load.take();
  if (surplus !== 0) throw new Error(`${surplus} messages more than expected`);
  const spent = Object.fromEntries(Object.keys(after).map((counter) => [counter, after[counter] - before[counter]]));
  return {
    ...told,
    messages,
    spent,
    micros: spent.cpu / messages,
    systemShare: spent.system / spent.cpu,
    loadShare: (loadAfter - loadBefore) / 1000 / spent.at,
  };
}
