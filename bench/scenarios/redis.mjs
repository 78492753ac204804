// Across nodes: published on one, peers on another, Redis between. Few peers, so that what crosses is what costs, not
// the fan-out behind it. 128 bytes of data; 1 and 32 publications in each turn of the event loop, and fixed rates.
import { Load, Server } from '../support/processes.mjs';
import { RedisServer } from '../support/redis.mjs';
import { takeTurns } from '../support/rounds.mjs';
import { spread } from '../support/statistics.mjs';
import { REDIS_BARE, REDIS_BARE_EACH, REDIS_HISTORY, REDIS_REALTIME, REDIS_SOCKET_IO } from '../support/subjects.mjs';

/** Publications until the publishing node waits for the peers. */
const CHUNK = 1_024;
const SUBJECTS = [REDIS_REALTIME, REDIS_SOCKET_IO, REDIS_BARE, REDIS_HISTORY, REDIS_BARE_EACH];

export async function acrossRedis({
  sockets = 10,
  rounds = 15,
  warmUps = 4,
  perTurns = [1, 32],
  rates = [400, 2_000, 6_000],
  subjects = SUBJECTS,
} = {}) {
  const redis = await RedisServer.start();
  const running = [];
  for (const subject of subjects) running.push(await open(subject, sockets, redis));
  const turns = { rounds, warmUps, reference: REDIS_SOCKET_IO };
  const bursts = [];
  for (const perTurn of perTurns) {
    const measured = await takeTurns(running, turns, async (server, load) => {
      const sum = { messages: 0, bytes: 0 };
      for (let i = 0; i < (perTurn === 1 ? 4 : 12); i++) {
        const arrived = load.count(CHUNK * sockets);
        await server.ask('publish', { perTurn, turns: CHUNK / perTurn });
        sum.bytes += (await arrived).bytes / sockets;
        sum.messages += CHUNK;
      }
      return sum;
    });
    bursts.push({ perTurn, sockets, subjects: measured.map(withParts) });
  }
  const paced = [];
  for (const perSecond of rates) {
    const measured = await takeTurns(running, turns, async (server, load) => {
      const count = perSecond;
      const arrived = load.count(count * sockets);
      await server.ask('pace', { perSecond, count });
      const { bytes } = await arrived;
      const delays = await load.delays();
      if (delays.length < count * sockets * 0.95) throw new Error(`Only ${delays.length} delays were measured`);
      return { messages: count, bytes: bytes / sockets, p50: quantile(delays, 0.5), p99: quantile(delays, 0.99) };
    });
    paced.push({ perSecond, sockets, subjects: measured.map(withDelays) });
  }
  for (const { load, server } of running) {
    await load.stop();
    await server.stop();
  }
  await redis.stop();
  return { redis: redis.version, bursts, paced };
}

async function open(subject, sockets, redis) {
  const server = await Nodes.start(subject, redis);
  const load = Load.start();
  await load.open(server.port, sockets, subject.dialect);
  return { subject, server, load };
}

/** Two servers that are asked as one: the first publishes, the second has the peers. */
class Nodes {
  #publishing;
  #serving;
  #redis;

  static async start({ server, env = {} }, redis) {
    const nodes = new Nodes();
    const options = { env: { ...env, BENCH_REDIS_URL: redis.url } };
    nodes.#redis = redis;
    nodes.#publishing = await Server.start(server, options);
    nodes.#serving = await Server.start(server, options);
    nodes.port = nodes.#serving.port;
    return nodes;
  }

  async ask(command, rest) {
    if (command !== 'usage') return this.#publishing.ask(command, rest);
    const [publishing, serving, redis] = await Promise.all([
      this.#publishing.ask('usage'),
      this.#serving.ask('usage'),
      this.#redis.usage(),
    ]);
    return {
      cpu: publishing.cpu + serving.cpu,
      system: publishing.system + serving.system,
      publishing: publishing.cpu,
      serving: serving.cpu,
      redis,
      at: publishing.at,
    };
  }

  async stop() {
    await this.#publishing.stop();
    await this.#serving.stop();
  }
}

/** Adds what of the CPU time is the publishing node's, the serving node's and Redis's, µs per publication. */
function withParts(measured) {
  const part = (name) => spread(measured.samples.map(({ spent, messages }) => spent[name] / messages));
  return { ...measured, publishing: part('publishing'), serving: part('serving'), redis: part('redis') };
}

function withDelays(measured) {
  const delay = (name) => spread(measured.samples.map((sample) => sample[name] / 1000));
  return { ...withParts(measured), p50Ms: delay('p50'), p99Ms: delay('p99') };
}

function quantile(ascending, share) {
  return ascending[Math.min(ascending.length - 1, Math.floor(ascending.length * share))];
}
