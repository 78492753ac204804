import { describe, test } from '@jest/globals';
import fc from 'fast-check';
import type { AnnouncementFate, CallFate, CallName } from '../../lib/testing/faulty-broker.js';
import { runs, TIMEOUT_MS } from './runs.js';
import { CHANNELS, World, type After, type Step, type WorldOptions } from './world.js';

const NODES = 2;
const PEERS = 3;

const node = fc.nat(NODES - 1);
const peer = fc.nat(PEERS - 1);
const after = fc.constantFrom<After>('nothing', 'microtasks', 'turn', 'turn', 'all', 'all', 'all');
const announcementFate = fc.constantFrom<AnnouncementFate>('deliver', 'lose', 'repeat', 'delay');
const callFate = fc.constantFrom<CallFate>('ok', 'unavailable', 'unapplied', 'applied', 'delay', 'delay');
const callName = fc.constantFrom<CallName>('append', 'read', 'read', 'read', 'tops', 'subscribe', 'unsubscribe');
const key = fc.option(fc.constantFrom('k1', 'k2'), { nil: undefined, freq: 3 });

interface Weights {
  publish?: number;
  faults?: number;
  data?: number;
  peers?: number;
  slow?: number;
  time?: number;
}

/** Steps on some channels; the weights say what is tried most. */
function steps(channels: readonly string[], weights: Weights, maxLength: number): fc.Arbitrary<[Step, After][]> {
  const { publish = 0, faults = 0, data = 0, peers = 0, slow = 0, time = 0 } = weights;
  const channel = fc.constantFrom(...channels);
  const exclude = fc.option(peer, { nil: undefined, freq: 3 });
  const op = <T extends string>(...names: T[]): fc.Arbitrary<T> => fc.constantFrom(...names);
  const all: { weight: number; arbitrary: fc.Arbitrary<unknown> }[] = [
    {
      weight: publish * 4,
      arbitrary: fc.record({
        op: op('publish'),
        node,
        channel,
        count: fc.constantFrom(1, 1, 1, 2, 5),
        large: fc.boolean(),
        exclude,
        key,
      }),
    },
    { weight: publish, arbitrary: fc.record({ op: op('peerPublish'), peer, channel, key, echo: fc.boolean() }) },
    {
      weight: faults * 2,
      arbitrary: fc.record({
        op: op('announce'),
        node,
        fates: fc.array(announcementFate, { minLength: 1, maxLength: 3 }),
      }),
    },
    { weight: faults, arbitrary: fc.record({ op: op('release'), node, count: fc.constantFrom(1, 100) }) },
    {
      weight: faults * 2,
      arbitrary: fc.record({
        op: op('calls'),
        node,
        call: callName,
        fates: fc.array(callFate, { minLength: 1, maxLength: 2 }),
      }),
    },
    { weight: faults * 2, arbitrary: fc.record({ op: op('answer'), node }) },
    { weight: faults, arbitrary: fc.record({ op: op('pause', 'resume', 'resume'), node }) },
    { weight: data, arbitrary: fc.record({ op: op('trim', 'expire', 'wipe'), channel }) },
    {
      weight: data,
      arbitrary: fc.record({ op: op('diverge'), channel, back: fc.integer({ min: 1, max: 3 }), regrow: fc.nat(4) }),
    },
    { weight: faults, arbitrary: fc.record({ op: op('unseen'), channel, count: fc.integer({ min: 1, max: 3 }) }) },
    { weight: peers, arbitrary: fc.record({ op: op('read'), reader: node, again: fc.boolean() }) },
    { weight: peers * 2, arbitrary: fc.record({ op: op('subscribe'), peer, channel }) },
    { weight: peers, arbitrary: fc.record({ op: op('unsubscribe'), peer, channel }) },
    { weight: peers * 2, arbitrary: fc.record({ op: op('connect'), peer, node }) },
    { weight: peers, arbitrary: fc.record({ op: op('cut'), peer, halfOpen: fc.boolean() }) },
    { weight: slow, arbitrary: fc.record({ op: op('stall', 'stall', 'flow'), peer }) },
    { weight: slow, arbitrary: fc.record({ op: op('drip'), peer, bytes: fc.constantFrom(200, 5_000, 40_000) }) },
    { weight: time, arbitrary: fc.record({ op: op('pass'), ms: fc.constantFrom(100, 600, 10_000, 31_000) }) },
  ];
  const used = all.filter(({ weight }) => weight > 0) as { weight: number; arbitrary: fc.Arbitrary<Step> }[];
  return fc.array(fc.tuple(fc.oneof(...used), after), { maxLength, size: 'max' });
}

/** What was before: how much is in each log, and which of it peers know. */
interface Start {
  readonly preload: number;
  readonly known: readonly (number | null)[];
}

const start: fc.Arbitrary<Start> = fc.record({
  preload: fc.nat(8),
  known: fc.array(fc.option(fc.nat(8)), { minLength: PEERS, maxLength: PEERS }),
});

/** Everyone is in every channel, then the steps happen. */
async function run(
  { preload, known }: Start,
  taken: readonly [Step, After][],
  options: Partial<WorldOptions> = {},
): Promise<void> {
  const channels = options.channels ?? ['log'];
  const world = await World.open({
    peers: PEERS,
    largeBytes: 0,
    heartbeat: { intervalMs: 2_000_000 },
    ...options,
    channels,
  });
  try {
    for (const channel of channels) world.unseen(channel, preload);
    world.peers.forEach((peer, i) => {
      for (const channel of channels) world.know(peer, channel, known[i]!);
      for (const channel of i === 0 ? [] : channels) peer.wanted.add(channel);
      peer.connect(i % NODES);
    });
    world.read(channels[0]!);
    await world.fleet.settle();
    for (const [step, then] of taken) await world.step(step, then);
    await world.finish();
  } finally {
    await world.close();
  }
}

function property(
  title: string,
  count: number,
  channels: readonly string[],
  weights: Weights,
  maxLength: number,
  options: Partial<WorldOptions> = {},
  examples: [Start, [Step, After][]][] = [],
): void {
  test(
    title,
    () =>
      fc.assert(
        fc.asyncProperty(start, steps(channels, weights, maxLength), (before, taken) =>
          run(before, taken, { ...options, channels }),
        ),
        { ...runs(count), examples },
      ),
    TIMEOUT_MS,
  );
}

const NOBODY_KNOWS: Start = { preload: 0, known: [null, null, null] };
const publish = (count: number): Step & { op: 'publish' } => {
  return { op: 'publish', node: 0, channel: 'log', count, large: false };
};
const peerPublish: Step = { op: 'peerPublish', peer: 0, channel: 'log', echo: false };

/** Its page ends with what is withheld from the peer, which asks for its position before the next one. */
const ASKED_TWICE_WHILE_CATCHING_UP: [Step, After][] = [
  [peerPublish, 'nothing'],
  [{ op: 'announce', node: 0, fates: ['lose', 'delay', 'deliver'] }, 'nothing'],
  [publish(2), 'nothing'],
  [publish(1), 'nothing'],
  [publish(1), 'nothing'],
  [peerPublish, 'all'],
  [publish(1), 'nothing'],
  [{ op: 'connect', peer: 1, node: 0 }, 'nothing'],
  [{ op: 'subscribe', peer: 1, channel: 'log' }, 'nothing'],
  [{ ...publish(1), exclude: 1 }, 'turn'],
];

describe('delivery', () => {
  property(
    'P1–P4, P7, P9: announcements are lost, late and repeated, calls fail, peers hop',
    4_000,
    ['log'],
    {
      publish: 3,
      faults: 2,
      peers: 1,
      time: 1,
    },
    30,
    {},
    [[NOBODY_KNOWS, ASKED_TWICE_WHILE_CATCHING_UP]],
  );
  property(
    'P1–P6: logs are trimmed, wiped, and go back to a prefix',
    4_000,
    ['log', 'live'],
    {
      publish: 3,
      faults: 1,
      data: 1,
      peers: 1,
      time: 1,
    },
    30,
  );
  property(
    'P1–P4, P14: peers read slowly',
    2_000,
    Object.keys(CHANNELS),
    {
      publish: 30,
      faults: 2,
      peers: 5,
      slow: 20,
      time: 3,
    },
    30,
    { largeBytes: 20_000, limits: { maxOutboxBytes: 100_000 } },
  );
});
