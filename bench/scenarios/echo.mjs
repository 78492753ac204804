// A request and its answer through a gateway: 100 connections, 1 and 16 requests of each in flight.
import { closeAll, openAll, takeTurns } from '../support/rounds.mjs';
import { PLATFORM_WS, REALTIME, WS } from '../support/subjects.mjs';

const TOTAL = 60_000;
const TEXT = `{"id":#,"event":"echo","data":"${'x'.repeat(64)}"}`;

/** `total` requests, `depth` of each connection in flight. */
export function echoRound(depth, total = TOTAL) {
  return async (_server, load) => {
    const answered = await load.request(depth, total, TEXT);
    if (answered.messages !== total) throw new Error(`${answered.messages} answers instead of ${total}`);
    return answered;
  };
}

export async function echo({
  connections = 100,
  rounds = 9,
  warmUps = 2,
  depths = [1, 16],
  total = TOTAL,
  subjects,
} = {}) {
  const running = await openAll(subjects ?? [REALTIME, WS, PLATFORM_WS], connections);
  const results = [];
  for (const depth of depths) {
    const measured = await takeTurns(running, { rounds, warmUps, reference: WS }, echoRound(depth, total));
    results.push({ depth, connections, subjects: measured });
  }
  await closeAll(running);
  return results;
}
