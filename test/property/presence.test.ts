import { describe, test } from '@jest/globals';
import fc from 'fast-check';
import { UserIdentity } from '../../lib/hub/identity.js';
import type { AnnouncementFate, CallFate } from '../../lib/testing/faulty-broker.js';
import { Fleet } from '../support/fleet.js';
import { Violation } from '../support/follower.js';
import { ModelLog } from '../support/model-log.js';
import { ModelPeer, type PeerWorld } from '../support/model-peer.js';
import { runs, TIMEOUT_MS } from './runs.js';

const ROOM = 'room';
const GRACE_MS = 2_000;
const HEARTBEAT = { intervalMs: 5_000, timeoutMs: 1_000 };
/** The first two are devices of one user, the third is another user, the fourth has no identity. */
const USERS = ['ann', 'ann', 'bob', undefined];

type After = 'nothing' | 'microtasks' | 'all' | 'merged';
type Step =
  | { op: 'subscribe' | 'unsubscribe' | 'ask'; peer: number }
  | { op: 'toggle'; peer: number; times: number }
  | { op: 'connect'; peer: number; node: number }
  | { op: 'cut'; peer: number; halfOpen: boolean }
  | { op: 'announce'; node: number; fates: AnnouncementFate[] }
  | { op: 'calls'; node: number; call: 'join' | 'leave' | 'presence'; fates: CallFate[] }
  | { op: 'release' | 'answer'; node: number }
  | { op: 'info'; info: number }
  | { op: 'pass'; ms: number };

const peer = fc.nat(USERS.length - 1);
const node = fc.nat(1);
const op = <T extends string>(...names: T[]): fc.Arbitrary<T> => fc.constantFrom(...names);
const after = fc.constantFrom<After>('nothing', 'microtasks', 'all', 'all', 'merged');
const announcementFate = fc.constantFrom<AnnouncementFate>('deliver', 'lose', 'repeat', 'delay');
const callFate = fc.constantFrom<CallFate>('ok', 'unavailable', 'unapplied', 'applied', 'delay');

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ op: op('subscribe', 'unsubscribe', 'ask'), peer }) },
  { weight: 4, arbitrary: fc.record({ op: op('toggle'), peer, times: fc.integer({ min: 2, max: 3 }) }) },
  { weight: 3, arbitrary: fc.record({ op: op('connect'), peer, node }) },
  { weight: 2, arbitrary: fc.record({ op: op('cut'), peer, halfOpen: fc.boolean() }) },
  {
    weight: 2,
    arbitrary: fc.record({
      op: op('announce'),
      node,
      fates: fc.array(announcementFate, { minLength: 1, maxLength: 3 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: op('calls'),
      node,
      call: fc.constantFrom('join' as const, 'leave' as const, 'presence' as const),
      fates: fc.array(callFate, { minLength: 1, maxLength: 2 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ op: op('release', 'answer'), node }) },
  { weight: 1, arbitrary: fc.record({ op: op('info'), info: fc.nat(2) }) },
  { weight: 2, arbitrary: fc.record({ op: op('pass'), ms: fc.constantFrom(100, 1_000, 2_500) }) },
);

class Room implements PeerWorld {
  readonly policies = { [ROOM]: 'disconnect' as const };
  readonly wipes = 0;
  readonly peers: ModelPeer[];

  private constructor(
    readonly fleet: Fleet,
    readonly model: ModelLog,
    private readonly told: { info: number },
  ) {
    this.peers = USERS.map((_, i) => {
      const member = new ModelPeer(`peer${i}`, this);
      member.onView = () => this.#checkView(member);
      return member;
    });
  }

  static async open(): Promise<Room> {
    const told = { info: 0 };
    const fleet = await Fleet.open({
      channels: { [ROOM]: { presence: true } },
      presence: { graceMs: GRACE_MS },
      heartbeat: HEARTBEAT,
      application: { subscribing: () => Promise.resolve(told.info) },
    });
    return new Room(fleet, await ModelLog.open(fleet.memory, [ROOM]), told);
  }

  connect(i: number, at: number): void {
    const user = USERS[i];
    this.peers[i]!.connect(at, user === undefined ? {} : { user: new UserIdentity(user) });
  }

  async step(taken: Step, then: After): Promise<void> {
    this.#apply(taken);
    if (then === 'microtasks') for (let i = 0; i < 3; i++) await Promise.resolve();
    if (then === 'all') await this.fleet.settle();
    if (then === 'merged') await this.fleet.pass(300, 300);
  }

  #apply(taken: Step): void {
    const { fleet, peers } = this;
    switch (taken.op) {
      case 'subscribe':
        peers[taken.peer]!.subscribe(ROOM);
        return;
      case 'unsubscribe':
        peers[taken.peer]!.unsubscribe(ROOM);
        return;
      case 'toggle':
        for (let i = 0; i < taken.times; i++) {
          if (peers[taken.peer]!.wanted.has(ROOM)) peers[taken.peer]!.unsubscribe(ROOM);
          else peers[taken.peer]!.subscribe(ROOM);
        }
        return;
      case 'ask':
        peers[taken.peer]!.askPresence(ROOM);
        return;
      case 'connect':
        this.connect(taken.peer, taken.node);
        return;
      case 'cut':
        peers[taken.peer]!.cut({ halfOpen: taken.halfOpen });
        return;
      case 'announce':
        fleet.faults(taken.node).announcements('presence', ...taken.fates);
        return;
      case 'calls':
        fleet.faults(taken.node).calls(taken.call, ...taken.fates);
        return;
      case 'release':
        fleet.faults(taken.node).release();
        return;
      case 'answer':
        fleet.faults(taken.node).answer();
        return;
      case 'info':
        this.told.info = taken.info;
        return;
      case 'pass':
        fleet.clock.advance(taken.ms);
        return;
      default:
        taken satisfies never;
    }
  }

  /** Faults stop, dead links are found, grace periods end: the members are those who are there. */
  async finish(): Promise<void> {
    const { fleet, peers } = this;
    for (const session of fleet.broker.sessions) session.heal();
    for (let round = 0; round < 3; round++) {
      await fleet.pass(1_000);
      peers.forEach((member, i) => {
        if (member.link === undefined && member.wanted.size > 0) this.connect(i, i % 2);
        else if (member.wanted.has(ROOM) && !member.follower(ROOM).on) member.subscribe(ROOM);
      });
    }
    await fleet.pass(HEARTBEAT.intervalMs * 2 + HEARTBEAT.timeoutMs + GRACE_MS + 2_000, 200);
    for (const member of peers) if (member.follower(ROOM).on) member.askPresence(ROOM);
    await fleet.settle();
    const expected = new Map<string, number>();
    peers.forEach((member, i) => {
      if (!member.follower(ROOM).on) return;
      const id = USERS[i] ?? member.client;
      expected.set(id, (expected.get(id) ?? 0) + 1);
    });
    const { users } = await fleet.hubs[0]!.presence.members(ROOM);
    const members = show(users.map(({ id, connections }) => [id, connections]));
    if (members !== show(expected)) throw new Violation(`P12 the members are ${members}, there are ${show(expected)}`);
    for (const member of peers) {
      const view = member.views.get(ROOM);
      if (!member.follower(ROOM).on) continue;
      if (view?.members.size !== expected.size)
        throw new Violation(`P12 ${member.client} sees ${show(view?.members ?? [])}`);
    }
  }

  #checkView(member: ModelPeer): void {
    const { rev, members } = member.views.get(ROOM)!;
    const seen = show(members);
    const there = show(this.model.members(ROOM, rev));
    if (seen !== there) throw new Violation(`P12 ${member.client} sees ${seen} at rev ${rev}, there were ${there}`);
  }
}

function show(entries: Iterable<readonly [string, unknown]>): string {
  return JSON.stringify([...entries].sort(([a], [b]) => (a < b ? -1 : 1)));
}

describe('presence', () => {
  test(
    'P12: views of a revision are what was there; at rest, members are who is there',
    () =>
      fc.assert(
        fc.asyncProperty(fc.array(fc.tuple(step, after), { maxLength: 30, size: 'max' }), async (steps) => {
          const room = await Room.open();
          try {
            USERS.forEach((_, i) => {
              if (i > 0) room.peers[i]!.wanted.add(ROOM);
              room.connect(i, i % 2);
            });
            await room.fleet.pass(600, 300);
            for (const [taken, then] of steps) await room.step(taken, then);
            await room.finish();
          } finally {
            await room.fleet.close();
          }
        }),
        runs(2_000),
      ),
    TIMEOUT_MS,
  );
});
