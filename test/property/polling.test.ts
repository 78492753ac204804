import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { IncomingMessage } from 'node:http';
import type { Call } from '../../lib/hub/call.js';
import { isRealtimeException } from '../../lib/protocol/errors.js';
import { formatPosition, parsePosition } from '../../lib/protocol/position.js';
import { Fleet } from '../support/fleet.js';
import { runs, TIMEOUT_MS } from './runs.js';

const NODES = 3;
const CHANNELS = ['chat.a', 'chat.b'];
const ARRIVED = {
  endpoint: '0:/',
  request: { rawHeaders: [] } as unknown as IncomingMessage,
  ip: '127.0.0.1',
  query: {},
  params: {},
};

/** What a frame asks of a handler. `slow` answers when the test says so, `stream` gives values until it ends. */
type Event = 'once' | 'again' | 'slow' | 'stream' | 'publish';
type Step =
  /** A poll at a node, whose answer may get lost. */
  | { op: 'poll'; node: number; lost: boolean }
  /** The next frames, or those before where their answer got lost. */
  | { op: 'send'; node: number; lost: boolean; events: Event[] }
  | { op: 'publish' | 'emit' | 'pause' | 'resume'; node: number }
  | { op: 'finish' }
  | { op: 'pass'; ms: number };

const node = fc.nat(NODES - 1);
const lost = fc.boolean();
const of = <T extends string>(...ops: T[]): fc.Arbitrary<T> => fc.constantFrom(...ops);
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 5, arbitrary: fc.record({ op: of('poll'), node, lost }) },
    {
      weight: 5,
      arbitrary: fc.record({
        op: of('send'),
        node,
        lost,
        events: fc.array(of<Event>('once', 'again', 'slow', 'stream', 'publish'), { minLength: 1, maxLength: 4 }),
      }),
    },
    { weight: 4, arbitrary: fc.record({ op: of('publish', 'emit'), node }) },
    { weight: 3, arbitrary: fc.record({ op: of('pause', 'resume'), node }) },
    { weight: 3, arbitrary: fc.record({ op: of('finish') }) },
    { weight: 3, arbitrary: fc.record({ op: of('pass'), ms: fc.constantFrom(500, 11_000, 21_000, 31_000) }) },
  ),
  { maxLength: 40, size: 'max' },
);

interface Frame {
  readonly id: number;
  readonly event: string;
  readonly data?: unknown;
}

/** A peer that repeats what was not answered, and what it saw. */
class World {
  /** How often each handler ran, by the key of its frame. */
  readonly ran = new Map<string, number>();
  readonly calls: Call[] = [];
  readonly finals = new Map<number, number>();
  readonly values = new Map<number, number[]>();
  readonly seen: Record<string, number[]> = { 'chat.a': [], 'chat.b': [] };
  readonly direct: number[] = [];
  readonly asked: Frame[] = [];
  readonly published = new Map<number, string>();
  positions = new Map<string, string>();
  inbox = 0;
  seq = 0;
  pending: Frame[] | undefined;
  nextId = 0;
  emitted = 0;
  over: unknown;
  pass = '';
  id = '';

  constructor(readonly fleet: Fleet) {}

  handle(event: string, call: Call): void {
    const key = call.key!;
    this.ran.set(`${event} ${key}`, (this.ran.get(`${event} ${key}`) ?? 0) + 1);
    if (event === 'slow') this.calls.push(call);
    else if (event === 'stream') {
      this.calls.push(call);
      call.stream(() => undefined);
      call.next(1);
      call.next(2);
    } else call.answer(event);
  }

  /** The handlers that wait come to their end. */
  finish(): void {
    for (const call of this.calls.splice(0)) {
      if (call.event === 'stream') call.done();
      else call.answer('slow');
    }
  }

  async connect(): Promise<void> {
    const hub = this.fleet.hubs[0]!;
    const arrival = { ...ARRIVED, transport: 'long-polling', user: undefined, awaitsToken: false, recorded: true };
    const connection = hub.arrive(arrival);
    const channels = new Map(CHANNELS.map((channel) => [channel, undefined]));
    const established = hub.records.establish(connection, { client: 'tab', channels });
    await this.fleet.settle();
    this.pass = (await established).pass;
    this.id = connection.id;
  }

  async poll(at: number, isLost: boolean): Promise<void> {
    await this.attempt(async () => {
      const connection = await this.fleet.hubs[at]!.records.resume(this.pass, ARRIVED);
      const answer = await connection.poll({
        inbox: this.inbox,
        positionOf: (channel) => this.positions.get(channel),
        holdMs: 300,
        onGone: () => undefined,
      });
      if (isLost || answer.superseded) return;
      for (const chunk of answer.frames) {
        for (const frame of JSON.parse(`[${chunk.toString()}]`) as any[]) this.take(frame);
      }
      this.inbox = answer.inbox;
      for (const [channel, { position }] of answer.positions) this.positions.set(channel, position);
    });
  }

  async send(at: number, isLost: boolean, events: readonly Event[]): Promise<void> {
    const repeated = this.pending !== undefined;
    this.pending ??= events.map((event) => {
      const id = ++this.nextId;
      const data = { channel: 'chat.a', event: 'said', data: id };
      return event === 'publish' ? { id, event: '$publish', data } : { id, event };
    });
    const frames = this.pending;
    if (!repeated) {
      this.seq++;
      this.asked.push(...frames);
    }
    await this.attempt(async () => {
      const connection = await this.fleet.hubs[at]!.records.resume(this.pass, ARRIVED);
      const { answers } = await connection.sendFrames(this.seq, frames);
      if (isLost) return;
      this.pending = undefined;
      for (const frame of JSON.parse(answers) as any[]) this.take(frame);
    });
  }

  take(frame: any): void {
    if (frame.event === 'direct') this.direct.push(frame.data as number);
    else if (frame.id !== undefined) {
      if (frame.more === true) this.values.set(frame.id, [...(this.values.get(frame.id) ?? []), frame.data]);
      else this.finals.set(frame.id, (this.finals.get(frame.id) ?? 0) + 1);
      if (frame.data?.position !== undefined) this.published.set(frame.id, frame.data.position as string);
    } else if (frame.channel !== undefined) {
      const offset = frame.offset as number;
      expect([frame.channel, offset]).toEqual([frame.channel, (this.seen[frame.channel]!.at(-1) ?? 0) + 1]);
      this.seen[frame.channel]!.push(offset);
    }
  }

  /** Refusals that ask to come back are what faults bring; anything else ends the run. */
  async attempt(act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      const code = isRealtimeException(error) ? error.code : undefined;
      if (code === 'broker_unavailable' || code === 'outcome_unknown' || code === 'send_in_progress') return;
      if (code === 'rate_limited') return;
      this.over = error;
    }
  }
}

async function run(taken: readonly Step[]): Promise<void> {
  const fleet = await Fleet.open({
    nodes: NODES,
    channels: { 'chat.:room': { publish: true, history: { size: 1_000, ttlMs: 3_600_000 } } },
    limits: { framesPerSecond: false },
    application: {
      handle: (_connection, _data, call) => {
        world.handle(call.event, call);
        return true;
      },
      idempotent: (_connection, event) => event === 'again',
    },
  });
  const world = new World(fleet);
  /** What is under way: one poll and one send at a time, as a peer has. */
  let polling: Promise<void> = Promise.resolve();
  let sending: Promise<void> = Promise.resolve();
  let isPolling = false;
  let isSending = false;
  const poll = (at: number, isLost: boolean): void => {
    if (isPolling) return;
    isPolling = true;
    polling = world.poll(at, isLost).finally(() => (isPolling = false));
  };
  const send = (at: number, isLost: boolean, events: readonly Event[]): void => {
    if (isSending) return;
    isSending = true;
    sending = world.send(at, isLost, events).finally(() => (isSending = false));
  };
  try {
    await world.connect();
    for (const step of taken) {
      switch (step.op) {
        case 'poll':
          poll(step.node, step.lost);
          break;
        case 'send':
          send(step.node, step.lost, step.events);
          break;
        case 'publish':
          fleet.publish(step.node, CHANNELS[step.node % 2]!, 'said', 0).catch(() => undefined);
          break;
        case 'emit':
          await fleet.settle();
          fleet.broker
            .session(fleet.hubs[step.node]!.node)
            .records.push(world.id, [{ text: `{"event":"direct","data":${world.emitted + 1}}` }])
            .then(
              () => world.emitted++,
              () => undefined,
            );
          break;
        case 'pause':
        case 'resume':
          fleet.faults(step.node)[step.op]();
          break;
        case 'finish':
          world.finish();
          break;
        case 'pass':
          await fleet.pass(step.ms);
          poll(0, false); // a peer that lives comes back in time
          poll(1, false);
          break;
        default:
          step satisfies never;
      }
      await fleet.settle();
    }
    for (const faults of fleet.broker.sessions) faults.heal();
    for (let i = 0; i < 8; i++) {
      world.finish();
      await fleet.pass(11_000);
      poll(i % NODES, false);
      await fleet.pass(500);
      if (world.pending !== undefined) send(i % NODES, false, []);
      await fleet.pass(500);
    }
    await polling;
    await sending;
    if (world.over !== undefined) {
      // It was away for longer than a connection lasts: that it is told.
      expect(world.over).toMatchObject({ code: 'gone' });
      return;
    }
    expect([isPolling, isSending, world.pending]).toEqual([false, false, undefined]);
    await checkOutcome(world);
  } finally {
    await fleet.close();
  }
}

async function checkOutcome(world: World): Promise<void> {
  const { fleet } = world;
  // P8: what is not idempotent ran at most once, over all attempts.
  for (const [key, count] of world.ran) if (!key.startsWith('again ')) expect([key, count]).toEqual([key, 1]);
  // P9: each request has exactly one final answer.
  for (const { id, event } of world.asked) expect([id, event, world.finals.get(id)]).toEqual([id, event, 1]);
  for (const values of world.values.values()) expect([[1], [1, 2]]).toContainEqual(values);
  // P8: an answered publish has one entry.
  const hub = fleet.hubs[0]!;
  for (const channel of CHANNELS) {
    const history = hub.history(hub.match(channel), { limit: 1_000, reverse: false });
    await fleet.settle();
    const { items, position } = await history;
    const { epoch } = parsePosition(position)!;
    const byId = new Map<string, string[]>();
    for (const { data, offset, tag } of items) {
      byId.set(data, [...(byId.get(data) ?? []), formatPosition(epoch, offset, tag)]);
    }
    if (channel === 'chat.a') {
      for (const [id, at] of world.published) expect([id, byId.get(String(id))]).toEqual([id, [at]]);
    }
    // P1, P3: everything came, in order.
    expect(world.seen[channel]).toEqual(items.map(({ offset }) => offset));
  }
  // D5.3: frames for this peer alone came once and in order.
  expect(world.direct).toEqual(Array.from({ length: world.emitted }, (_, i) => i + 1));
}

describe('polls and sends', () => {
  test(
    'P1, P8, P9: nodes die, answers get lost and are asked for again at other nodes',
    () => fc.assert(fc.asyncProperty(steps, run), runs(150)),
    TIMEOUT_MS,
  );
});
