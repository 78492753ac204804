import { afterEach, describe, expect, it } from '@jest/globals';
import { UserIdentity } from '../../../lib/hub/identity.js';
import { patternMistake } from '../../../lib/hub/definition.js';
import { Fleet } from '../../support/fleet.js';
import { Peer } from './peer.js';

const CHANNEL = '$control';
const ADA = { user: new UserIdentity('ada') };

let fleet: Fleet;

afterEach(() => fleet.close());

async function open(): Promise<{ peers: Peer[] }> {
  fleet = await Fleet.open({ nodes: 2, channels: { ':anything': {} } });
  const peers = [0, 1].map((node) => new Peer(fleet, ADA, node));
  await fleet.settle();
  return { peers };
}

/** What the applications' events said, in order. */
const told = ({ frames }: Peer): unknown[] => frames.filter(({ event }) => event === 'n').map(({ data }) => data);

async function emit(...numbers: number[]): Promise<void> {
  for (const n of numbers) {
    fleet.hubs[0]!.control.emit({ user: 'ada' }, 'n', n).catch(() => undefined);
    await fleet.settle();
  }
}

describe('messages to nodes', () => {
  it('are applied once and in order where announcements are lost, late and repeated', async () => {
    const { peers } = await open();
    fleet.faults(1).announcements('envelope', 'lose', 'repeat', 'delay', 'lose', 'deliver');
    await emit(1, 2, 3, 4, 5, 6);
    fleet.faults(1).release();
    await fleet.settle();
    for (const peer of peers) expect(told(peer)).toEqual([1, 2, 3, 4, 5, 6]);
    await fleet.pass(10_000);
    for (const peer of peers) expect(told(peer)).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it('of one turn are one call of the broker', async () => {
    const { peers } = await open();
    let calls = 0;
    const session = fleet.faults(0) as { append: (...args: never[]) => Promise<unknown> };
    const { append } = session;
    session.append = (...args) => {
      calls++;
      return append(...args);
    };
    for (let n = 0; n < 50; n++) void fleet.hubs[0]!.control.emit({ user: 'ada' }, 'n', n);
    await fleet.settle();
    expect(calls).toBe(1);
    expect(told(peers[1]!)).toHaveLength(50);
  });

  it('end, at the reconnect, the connections of a node that was cut off', async () => {
    const { peers } = await open();
    fleet.faults(1).pause();
    void fleet.hubs[0]!.control.emit({ user: 'ada' }, 'n', 1);
    void fleet.hubs[0]!.control.disconnect({ user: 'ada' });
    await fleet.settle();
    expect(peers.map(({ close }) => close)).toEqual([[4403, 'forbidden'], undefined]);
    fleet.faults(1).resume();
    await fleet.settle();
    expect(told(peers[1]!)).toEqual([1]);
    expect(peers[1]!.close).toEqual([4403, 'forbidden']);
  });

  it('are found by the periodic check where the last announcement was lost', async () => {
    const { peers } = await open();
    fleet.faults(1).announcements('envelope', 'lose');
    void fleet.hubs[0]!.control.disconnect({ user: 'ada' });
    await fleet.settle();
    expect(peers[1]!.close).toBeUndefined();
    await fleet.pass(10_000);
    expect(peers[1]!.close).toEqual([4403, 'forbidden']);
  });

  it.each(['trim', 'wipe'] as const)('that a node cannot have any more are told to the operator: %s', async (loss) => {
    const { peers } = await open();
    fleet.faults(1).pause();
    await emit(1, 2);
    await fleet.broker[loss](CHANNEL);
    fleet.faults(1).resume();
    await fleet.settle();
    const reason = loss === 'trim' ? 'trimmed' : 'epoch';
    expect(fleet.logged).toContainEqual({ level: 'warn', message: expect.stringContaining(`lost (${reason})`) });
    await fleet.pass(10_000);
    await emit(3);
    expect(told(peers[1]!)).toEqual([3]);
  });

  it('one that cannot be applied keeps nobody from the next', async () => {
    const { peers } = await open();
    const { broker } = fleet;
    const item = { event: 'emit', data: '{"op":"emit"}' };
    await broker.session(fleet.hubs[0]!.node).append(CHANNEL, { size: 9, ttlMs: 9e5, metaTtlMs: 9e6 }, 'k1', [item]);
    await emit(1);
    for (const peer of peers) expect(told(peer)).toEqual([1]);
    expect(fleet.logged).toMatchObject([{ level: 'error' }, { level: 'error' }]);
  });

  it('are out of the reach of peers and applications: no channel begins with $', async () => {
    const { peers } = await open();
    const ask = ['$subscribe', '$history', '$publish'].map((event, id) => {
      peers[0]!.ask(id, event, { channel: CHANNEL, event: 'n', data: 1 });
      return id;
    });
    await fleet.settle();
    for (const id of ask) expect(peers[0]!.answers(id)).toMatchObject([{ error: { code: 'invalid' } }]);
    expect(() => fleet.hubs[0]!.match(CHANNEL)).toThrow(expect.objectContaining({ code: 'invalid' }));
    expect(patternMistake('$control')).toBeDefined();
  });
});

describe('a worker', () => {
  it('sends messages, and follows none', async () => {
    fleet = await Fleet.open({ nodes: 1 });
    const peer = new Peer(fleet, ADA);
    const worker = await fleet.addWorker();
    void worker.control.disconnect({ user: 'ada' });
    await fleet.settle();
    expect(peer.close).toEqual([4403, 'forbidden']);
    expect(worker.subscriptions.channels.size).toBe(0);
  });
});
