import { afterEach, describe, expect, it } from '@jest/globals';
import { Fleet as Nodes } from '../../../lib/admin/fleet.js';
import { TOP_CHANNELS } from '../../../lib/admin/report.js';
import { KEPT_SAMPLES } from '../../../lib/admin/sampler.js';
import { SAMPLE_MS, type NodeReport, type Past } from '../../../lib/admin/snapshot.js';
import { Fleet } from '../../support/fleet.js';

/** After this nobody asks any more, and a silent node is forgotten. */
const LONG_MS = 60_000;

describe('the nodes of a fleet', () => {
  let fleet: Fleet | undefined;
  afterEach(() => fleet?.close());

  async function open(nodes = 2): Promise<Nodes[]> {
    fleet = await Fleet.open({ nodes, channels: { 'room.:id': {} } });
    const all = fleet.hubs.map((hub) => new Nodes(hub, () => []));
    for (const each of all) await fleet.settled(each.open());
    await fleet.settle();
    return all;
  }

  /** Watches, and keeps what is told. */
  function watch(nodes: Nodes): {
    told: { event: string; data: any }[];
    stop: () => void;
    of: (node: number) => any[];
  } {
    const told: { event: string; data: any }[] = [];
    const stop = nodes.watch((event, node, data) => {
      told.push({ event, data: JSON.parse(data()) });
      expect(told.at(-1)!.data.node).toBe(node);
    });
    const of = (node: number): any[] => told.filter(({ data }) => data.node === fleet!.hubs[node]!.node);
    return { told, stop, of };
  }

  /** How many publications the nodes made for each other. */
  const sent = (): number => fleet!.hubs.reduce((sum, hub) => sum + hub.meter.call('append').stats.count, 0);

  it('are told with their past as somebody begins to watch, and then with every sample', async () => {
    const [one] = await open();
    await fleet!.pass(10 * SAMPLE_MS);
    const { of } = watch(one!);
    await fleet!.settle();
    for (const node of [0, 1]) {
      const [past, report] = of(node) as [{ event: string; data: Past }, { event: string; data: NodeReport }];
      expect([past.event, report.event]).toEqual(['past', 'node']);
      expect(past.data.samples).toHaveLength(11);
    }
    await fleet!.pass(5 * SAMPLE_MS);
    for (const node of [0, 1]) expect(of(node).filter(({ event }) => event === 'node')).toHaveLength(6);
  });

  it('tell nothing while nobody watches, and stop when nobody does any more', async () => {
    const [one] = await open();
    const before = sent();
    await fleet!.pass(LONG_MS);
    expect(sent()).toBe(before);
    const { stop } = watch(one!);
    await fleet!.pass(LONG_MS);
    expect(sent()).toBeGreaterThan(before + 25);
    stop();
    await fleet!.pass(LONG_MS);
    const after = sent();
    await fleet!.pass(LONG_MS);
    expect(sent()).toBe(after);
  });

  it('are kept for who comes later, with no more than five minutes of each', async () => {
    const [one] = await open();
    watch(one!);
    await fleet!.pass((KEPT_SAMPLES + 20) * SAMPLE_MS, SAMPLE_MS);
    const { of } = watch(one!);
    for (const node of [0, 1]) {
      expect(of(node).map(({ event }) => event)).toEqual(['past', 'node']);
      expect(of(node)[0].data.samples).toHaveLength(KEPT_SAMPLES);
    }
  });

  it('are forgotten when they go, and when they have said nothing for long', async () => {
    const [one, two, three] = await open(3);
    const { told } = watch(one!);
    await fleet!.pass(SAMPLE_MS);
    const gone = (): unknown[] => told.filter(({ event }) => event === 'gone').map(({ data }) => data.node);
    await fleet!.settled(two!.close());
    expect(gone()).toEqual([fleet!.hubs[1]!.node]);
    fleet!.faults(2).pause();
    expect(three).toBeDefined();
    await fleet!.pass(LONG_MS);
    expect(gone()).toEqual([fleet!.hubs[1]!.node, fleet!.hubs[2]!.node]);
  });

  it('tell of themselves while the broker is away, and find each other when it is back', async () => {
    const [one] = await open();
    fleet!.faults(0).pause();
    const { of } = watch(one!);
    await fleet!.pass(3 * SAMPLE_MS);
    expect(of(0).map(({ event }) => event)).toEqual(['past', 'node', 'node', 'node', 'node']);
    expect(of(1)).toEqual([]);
    fleet!.faults(0).resume();
    await fleet!.pass(5 * SAMPLE_MS);
    expect(of(1).map(({ event }) => event)).toEqual(expect.arrayContaining(['past', 'node']));
  });

  it('pass over what they cannot read, of a node of another version', async () => {
    const [one] = await open();
    const { of } = watch(one!);
    await fleet!.pass(SAMPLE_MS);
    const other = fleet!.hubs[1]!;
    const before = of(1).length;
    const channel = other.control.channel('$admin.nodes');
    const strange = [
      ['past', { node: other.node, format: 2, samples: {} }],
      ['past', { node: other.node, format: 1, samples: {} }],
      ['node', { node: other.node, format: 2, sample: {} }],
      ['node', null],
      ['later', { node: other.node, format: 1 }],
    ] as const;
    for (const [event, data] of strange) await fleet!.settled(channel.send(event, JSON.stringify(data)));
    await fleet!.settled(channel.send('node', '{'));
    expect(of(1)).toHaveLength(before);
    expect(fleet!.logged.splice(0).map(({ message }) => message)).toEqual(
      Array(3).fill('A message of another node could not be read'),
    );
    await fleet!.pass(2 * SAMPLE_MS);
    expect(of(1)).toHaveLength(before + 2);
    expect(of(0).at(-1)).toMatchObject({ event: 'node' });
  });

  it('name the channels with the most subscribers, and how many there are', async () => {
    const [one] = await open(1);
    const hub = fleet!.hubs[0]!;
    const ends: (() => void)[] = [];
    const nothing = (): void => undefined;
    const events = { started: nothing, publications: nothing, lost: nothing, ended: nothing };
    for (let i = 0; i <= TOP_CHANNELS; i++) ends.push(hub.read(`room.${i}`, undefined, events));
    ends.push(hub.read('room.30', undefined, events));
    await fleet!.settle();
    const { of } = watch(one!);
    const { channels } = of(0).at(-1).data as NodeReport;
    expect(channels.total).toBe(TOP_CHANNELS + 1);
    expect(channels.top).toHaveLength(TOP_CHANNELS);
    expect(channels.top[0]).toMatchObject({ name: 'room.30', pattern: 'room.:id', subscribers: 2 });
    for (const end of ends) end();
  });
});
