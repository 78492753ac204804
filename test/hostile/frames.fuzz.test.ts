import { afterEach, describe, expect, it } from '@jest/globals';
import { RealtimeService } from '../../lib/index.js';
import type { FrameId } from '../../lib/protocol/frames.js';
import { platforms } from '../e2e/support/platforms.js';
import { reset } from '../../lib/testing/reset.js';
import { startLimitedTarget, startTarget, type Target } from './support/app.js';
import { FrameSource, type HostileFrame } from './support/frame-source.js';
import { MIB, usedBytes } from './support/memory.js';
import { Neighbour } from './support/neighbour.js';
import { Random, seedOf } from './support/random.js';
import { clientFrame, RawPeer, type Heard } from './support/raw-peer.js';

const FRAMES = 100_000;
const LIMITED_FRAMES = 10_000;
const FRAMES_PER_PEER = 250;
const BURST = 50;
const PEERS_AT_ONCE = 4;
/** How many questions and answers an unanswered frame is given. */
const PATIENCE_TURNS = 100;
/** What may be in use after the last frames, and was not after the first tenth. */
const GROWTH_BYTES = 6 * MIB;

/** Some ten seconds, where nothing else runs. */
const TIMEOUT_MS = 180_000;

/** How many frames of a peer may be served at once: few enough for the streams that these peers leave open to be felt. */
const MAX_IN_FLIGHT = 80;
const IN_FLIGHT = 'Too many frames are being served';

const seed = seedOf(process.env.HOSTILE_SEED);

/** Breaks the protocol below frames: each of them ends the connection. */
const BREAKERS: readonly ((random: Random) => Buffer)[] = [
  () => clientFrame('{"event":"echo"}', { masked: false }),
  (random) => clientFrame('x', { opcode: 3 + random.int(5) }),
  (random) => clientFrame('x', { opcode: 11 + random.int(5) }),
  (random) => clientFrame('x', { reserved: random.pick([0x10, 0x20, 0x40, 0x70]) }),
  () => clientFrame('x', { opcode: 0 }),
  () => clientFrame('x', { opcode: 9, fin: false }),
  () => clientFrame('x'.repeat(126), { opcode: 9 }),
  () => Buffer.concat([clientFrame('{"event":', { fin: false }), clientFrame('{"event":"echo"}')]),
  () => clientFrame('', { opcode: 8 }),
  () => clientFrame('x', { opcode: 8 }),
  () => clientFrame(Buffer.from([0, 7]), { opcode: 8 }),
  () => clientFrame(Buffer.from([0x03, 0xe8, 0xff, 0xfe]), { opcode: 8 }),
  () => clientFrame('x'.repeat(65_537)),
  () => Buffer.from([0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
  () => Buffer.from([0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
];

/** The bytes of a message: mostly one frame, sometimes fragments with pings between them, sometimes binary. */
function encode({ payload }: HostileFrame, random: Random): Buffer {
  const opcode = random.chance(0.1) ? 2 : 1;
  if (payload.length === 0 || !random.chance(0.1)) return clientFrame(payload, { opcode });
  const parts: Buffer[] = [];
  for (let at = 0; at < payload.length;) {
    const to = Math.min(payload.length, at + 1 + random.int(Math.ceil(payload.length / 3)));
    parts.push(clientFrame(payload.subarray(at, to), { opcode: at === 0 ? opcode : 0, fin: to === payload.length }));
    if (to < payload.length && random.chance(0.3)) parts.push(clientFrame('still here', { opcode: 9 }));
    at = to;
  }
  return Buffer.concat(parts);
}

interface Attack {
  readonly port: number;
  /** Whether the hub limits frames: it may end the connection for that, and finds ids also where the rest is no JSON. */
  readonly limited: boolean;
  readonly sent: (count: number) => void;
  /** A frame was refused, as too many are being served; by what the peer knows so many may be. */
  readonly refused: (most: number) => void;
}

/** One connection of a hostile peer, from its handshake to its end. Returns what was not as it must be. */
async function attack({ port, limited, sent, refused }: Attack, random: Random, frames: number): Promise<string[]> {
  const peer = await RawPeer.connect(port);
  const source = new FrameSource(random);
  const awaited = new Map<FrameId, { frames: number; answers: number; last: string }>();
  const endless = new Set<FrameId>();
  let missing = 0;
  /** Frames without an id: when they have been served is not to be seen. */
  let unseen = 0;
  let expelled = false;
  const wrong: string[] = [];
  peer.onFrame = (heard: Heard) => {
    if (heard.event === '$disconnect') {
      expelled = limited && heard.data?.reason === 'rate_limited';
      if (!expelled) wrong.push(`was disconnected: ${JSON.stringify(heard)}`);
    }
    if (!('id' in heard) || heard.more === true) return;
    const question = awaited.get(heard.id as FrameId);
    if (question === undefined && limited && heard.error?.code === 'rate_limited') return;
    if (question === undefined) return void wrong.push(`answered what nobody asked: ${JSON.stringify(heard)}`);
    if (heard.error?.message === IN_FLIGHT) refused(missing + unseen);
    if (++question.answers > question.frames && !limited) wrong.push(`answered twice: ${question.last}`);
    missing--;
  };
  for (let done = 0; done < frames && !peer.over; done += BURST) {
    const bytes: Buffer[] = [];
    for (let i = 0; i < BURST; i++) {
      const frame = source.next();
      if (limited && frame.endless) continue; // what cancels it may be over the limit
      bytes.push(encode(frame, random));
      if (frame.id === undefined) {
        unseen++;
        continue;
      }
      const question = awaited.get(frame.id) ?? { frames: 0, answers: 0, last: '' };
      question.frames++;
      question.last = frame.payload.toString().slice(0, 200);
      awaited.set(frame.id, question);
      missing++;
      if (frame.endless) endless.add(frame.id);
    }
    const all = Buffer.concat(bytes);
    const cut = random.int(all.length);
    await peer.write(all.subarray(0, cut));
    await peer.write(all.subarray(cut));
    sent(BURST);
  }
  for (const id of endless) await peer.write(clientFrame(JSON.stringify({ event: '$cancel', data: { id } })));
  // The last two show that nothing comes twice.
  for (let turns = 0, settled = 0; settled < 2 && turns < PATIENCE_TURNS && !peer.over; turns++) {
    if (missing === 0) settled++;
    await peer.ask(`turn-${turns}`, '$cancel', { id: 0 }).catch(() => undefined);
  }
  if (missing > 0 && !expelled) {
    const open = [...awaited.values()].filter(({ frames: asked, answers }) => answers < asked);
    wrong.push(`${missing} frames were not answered, such as: ${open[0]?.last}`);
  }
  peer.onFrame = () => undefined;
  if (random.chance(0.5)) await peer.write(random.pick(BREAKERS)(random));
  else random.pick([() => peer.socket.end(), () => reset(peer.socket)])();
  await peer.closed;
  return wrong;
}

let dispose: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of dispose.reverse()) await end();
  dispose = [];
});

async function disposed(starting: Promise<Target>): Promise<Target> {
  const target = await starting;
  dispose.push(() => target.close());
  return target;
}

/** Many hostile peers, a few at a time, each with a fork of the random numbers. */
async function attackAll(
  how: Attack,
  random: Random,
  frames: number,
  rest?: (share: number) => Promise<void>,
): Promise<string[]> {
  const wrong: string[] = [];
  const peers = Math.ceil(frames / FRAMES_PER_PEER);
  for (let first = 0; first < peers; first += PEERS_AT_ONCE) {
    const several = Array.from({ length: Math.min(PEERS_AT_ONCE, peers - first) }, () => random.fork());
    for (const found of await Promise.all(several.map((fork) => attack(how, fork, FRAMES_PER_PEER)))) {
      wrong.push(...found);
    }
    await rest?.((first + several.length) / peers);
    if (wrong.length > 20) break;
  }
  return wrong;
}

describe(`hostile frames, HOSTILE_SEED=${seed}`, () => {
  it(
    `are answered, each that has an id exactly once, and leave nothing behind: ${FRAMES} of them`,
    async () => {
      const target = await disposed(startTarget(platforms[0], { limits: { maxFramesInFlight: MAX_IN_FLIGHT } }));
      const neighbour = await Neighbour.join(target.port, target.app.get(RealtimeService));
      dispose.push(() => neighbour.leave());
      const used: number[] = [];
      const checkpoints = [0.1, 0.4, 0.7, 1];
      const inFlight: number[] = [];
      const how = {
        port: target.port,
        limited: false,
        sent: (count: number) => neighbour.othersSent(count),
        refused: (most: number) => void inFlight.push(most),
      };
      const wrong = await attackAll(how, new Random(seed), FRAMES, async (share) => {
        if (share >= checkpoints[used.length]!) used.push(await usedBytes());
      });
      expect(wrong).toEqual([]);
      expect(inFlight.length).toBeGreaterThan(0);
      expect(inFlight.length).toBeLessThan(FRAMES / 10);
      expect(Math.min(...inFlight)).toBeGreaterThanOrEqual(MAX_IN_FLIGHT);
      expect(target.logger.lines).toEqual([]);
      expect(({} as Record<string, unknown>).polluted).toBeUndefined();
      expect(used).toHaveLength(checkpoints.length);
      expect(used.at(-1)! - used[0]!).toBeLessThan(GROWTH_BYTES);
      const { rounds, missed, mostBetween } = await neighbour.settle();
      expect(missed).toEqual([]);
      expect(rounds).toBeGreaterThan(FRAMES / FRAMES_PER_PEER / PEERS_AT_ONCE);
      expect(mostBetween).toBeLessThanOrEqual(1_000);
    },
    TIMEOUT_MS,
  );

  it(`are answered, or their sender is expelled, where limits are as they are by default: ${LIMITED_FRAMES} of them`, async () => {
    const target = await disposed(startLimitedTarget(platforms[1]));
    const how = { port: target.port, limited: true, sent: () => undefined, refused: () => undefined };
    expect(await attackAll(how, new Random(seed), LIMITED_FRAMES)).toEqual([]);
    expect(target.logger.lines).toEqual([]);
    const peer = await RawPeer.connect(target.port);
    expect((await peer.ask(1, 'echo', 1)).data).toEqual({ echoed: 1 });
    await peer.end();
  });
});
