// One publication to many sockets, or event streams: 128 bytes of data, and 1, 8 and 32 publications in each turn of the
// event loop.
import { closeAll, openAll, takeTurns } from '../support/rounds.mjs';
import {
  BARE_WRITE,
  BETTER_SSE,
  NEST_SSE,
  PLATFORM_WS,
  REALTIME,
  REALTIME_SSE,
  SOCKET_IO,
  WS,
} from '../support/subjects.mjs';

/** Publications until the servers wait for the peers: what is on the way stays small for a socket's buffers. */
const CHUNK = 96;

const SOCKETS = { subjects: [REALTIME, WS, PLATFORM_WS, SOCKET_IO, BARE_WRITE], reference: WS };
const STREAMS = { subjects: [REALTIME_SSE, NEST_SSE, BETTER_SSE], reference: NEST_SSE };

export function fanOutToStreams(options = {}) {
  return fanOut({ ...STREAMS, perTurns: [1, 8], ...options });
}

/** A round of publications, `perTurn` in a turn of the event loop. */
export function fanOutRound(perTurn, sockets) {
  const chunks = perTurn === 1 ? 1 : perTurn === 8 ? 2 : 4;
  return async (server, load) => {
    const sum = { messages: 0, bytes: 0 };
    for (let i = 0; i < chunks; i++) {
      const arrived = load.count(CHUNK * sockets);
      await server.ask('publish', { perTurn, turns: CHUNK / perTurn });
      const { messages, bytes } = await arrived;
      if (messages !== CHUNK * sockets) throw new Error(`${messages} messages instead of ${CHUNK * sockets}`);
      sum.messages += messages;
      sum.bytes += bytes;
    }
    return sum;
  };
}

export async function fanOut({
  sockets = 1000,
  rounds = 9,
  warmUps = 2,
  perTurns = [1, 8, 32],
  subjects = SOCKETS.subjects,
  reference = SOCKETS.reference,
} = {}) {
  const running = await openAll(subjects, sockets);
  const results = [];
  for (const perTurn of perTurns) {
    const measured = await takeTurns(running, { rounds, warmUps, reference }, fanOutRound(perTurn, sockets));
    results.push({ perTurn, sockets, subjects: measured });
  }
  await closeAll(running);
  return results;
}
