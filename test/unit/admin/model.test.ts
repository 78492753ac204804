import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { DRAWN_SAMPLES, Model } from '../../../lib/admin/page/model.js';
import type { ChannelReport, NodeReport, Sample } from '../../../lib/admin/snapshot.js';

const INTERVAL_MS = 2_000;

function sample(slot: number, values: Partial<Sample> = {}): Sample {
  const zero = { connections: 0, received: 0, sent: 0, published: 0, delivered: 0, errors: 0, refused: 0, lagMs: 0 };
  return { slot, ...zero, fanOutMs: null, deliveryMs: null, ...values };
}

/** What the page reads of a report. */
function report(node: string, values: Partial<NodeReport> & { sample: Sample }): NodeReport {
  const counted = { errors: {}, refused: {}, closed: {} };
  const health = { broker: { available: true } };
  const rest = { host: 'host', pid: 1, uptimeMs: 0, connections: {}, counted, health, findings: [] };
  return { node, ...rest, channels: { total: 0, top: [] }, ...values } as unknown as NodeReport;
}

describe('what the page knows', () => {
  let model: Model;
  let now: number;
  const hello = { node: 'a', readOnly: true, version: '0', intervalMs: INTERVAL_MS, checks: [] };
  const slotNow = (): number => Math.floor(now / INTERVAL_MS);

  beforeEach(() => {
    now = 1_000_000;
    jest.spyOn(Date, 'now').mockImplementation(() => now);
    jest.spyOn(performance, 'now').mockImplementation(() => now);
    model = new Model();
    model.begin(hello);
  });

  afterEach(() => {
    jest.restoreAllMocks();
  });

  const connections = (count: number): (number | undefined)[] => model.sums('connections').slice(-count);

  it('adds the samples of the nodes up, each in its interval', () => {
    const slot = slotNow();
    model.past({
      format: 1,
      node: 'a',
      samples: [sample(slot - 2, { connections: 1 }), sample(slot - 1, { connections: 2 })],
    });
    model.report(report('a', { sample: sample(slot, { connections: 3 }) }));
    model.report(report('b', { sample: sample(slot, { connections: 10 }) }));
    expect(connections(4)).toEqual([undefined, 1, 2, 13]);
    expect(model.sums('connections')).toHaveLength(DRAWN_SAMPLES);
  });

  it('draws the newest interval once every node that speaks has told it', () => {
    const slot = slotNow();
    for (const node of ['a', 'b']) model.report(report(node, { sample: sample(slot, { connections: 1 }) }));
    now += INTERVAL_MS;
    model.report(report('a', { sample: sample(slot + 1, { connections: 5 }) }));
    expect(connections(1)).toEqual([2]);
    model.report(report('b', { sample: sample(slot + 1, { connections: 5 }) }));
    expect(connections(2)).toEqual([2, 10]);
    for (let i = 2; i < 6; i++) {
      now += INTERVAL_MS;
      model.report(report('a', { sample: sample(slot + i, { connections: 5 }) }));
    }
    expect(connections(3)).toEqual([5, 5, 5]); // the other says nothing any more
    expect(model.nodes.map(({ silent }) => silent)).toEqual([false, true]);
  });

  it('puts nodes whose clocks differ beside each other', () => {
    const slot = slotNow();
    model.report(report('a', { sample: sample(slot, { connections: 1 }) }));
    model.report(report('b', { sample: sample(slot - 1_000, { connections: 10 }) }));
    expect(connections(1)).toEqual([11]);
    model.past({ format: 1, node: 'b', samples: [sample(slot - 1_001, { connections: 20 })] }); // it may come late
    expect(connections(2)).toEqual([20, 11]);
  });

  it('keeps no more than it draws', () => {
    for (let i = 0; i < DRAWN_SAMPLES * 2; i++) {
      model.report(report('a', { sample: sample(slotNow(), { connections: i }) }));
      now += INTERVAL_MS;
    }
    expect(model.sums('connections')[0]).toBe(DRAWN_SAMPLES);
    expect(connections(1)).toEqual([DRAWN_SAMPLES * 2 - 1]);
  });

  it('takes the latencies of the slowest node, and none where nothing was delivered', () => {
    const slot = slotNow();
    model.report(report('a', { sample: sample(slot, { deliveryMs: [1, 9] }) }));
    model.report(report('b', { sample: sample(slot, { deliveryMs: [2, 4] }) }));
    expect([model.slowest('deliveryMs', 0).at(-1), model.slowest('deliveryMs', 1).at(-1)]).toEqual([2, 9]);
    expect(model.slowest('fanOutMs', 1).at(-1)).toBeUndefined();
  });

  it('knows the rate of a channel from where it is, whichever node tells', () => {
    const tell = (node: string, channel: Partial<ChannelReport>): void => {
      const top = [{ name: 'news', pattern: 'news', subscribers: 2, epoch: 'e', offset: 0, ...channel }];
      model.report(report(node, { sample: sample(slotNow()), channels: { total: 1, top } }));
    };
    tell('a', { offset: 100 });
    tell('b', { offset: 98 }); // it is late
    expect(model.rateOf('news')).toBeUndefined();
    for (let i = 1; i <= 10; i++) {
      now += INTERVAL_MS;
      tell('a', { offset: 100 + i * 8 });
      tell('b', { offset: 98 + i * 8 });
    }
    expect(model.rateOf('news')).toBe(4);
    expect(model.channels).toMatchObject({ total: 1, listed: [{ name: 'news', subscribers: 4, nodes: 2, rate: 4 }] });
    tell('a', { epoch: 'another', offset: 1 });
    expect(model.rateOf('news')).toBeUndefined();
  });

  it('adds up what the nodes have counted, and who falls short of what', () => {
    const finding = { check: 'limits', message: 'A limit is off', fix: 'Set it' };
    const counted = (forbidden: number): NodeReport['counted'] =>
      ({ errors: { forbidden, internal: 1, invalid: 0 }, refused: {}, closed: {} }) as unknown as NodeReport['counted'];
    model.report(report('a', { sample: sample(1), counted: counted(3), findings: [finding] }));
    model.report(report('b', { sample: sample(1), pid: 2, counted: counted(4), findings: [finding] }));
    expect(model.counted('errors')).toEqual([
      ['forbidden', 7],
      ['internal', 2],
    ]);
    expect([...model.findings]).toEqual([['limits', [{ finding, nodes: ['host:1', 'host:2'] }]]]);
    model.gone('b');
    expect(model.counted('errors')).toEqual([
      ['forbidden', 3],
      ['internal', 1],
    ]);
  });

  describe('of nodes that go', () => {
    const tell = (node: string, pid: number, open = 3, values: Partial<NodeReport> = {}): void =>
      model.report(
        report(node, {
          pid,
          uptimeMs: now - 500_000,
          connections: { sse: open },
          sample: sample(slotNow(), { connections: open }),
          ...values,
        }),
      );
    /** Both nodes tell what they do, so many times. */
    const pass = (times: number, each: () => void): void => {
      for (let i = 0; i < times; i++) {
        now += INTERVAL_MS;
        each();
      }
    };
    const both = (): void => {
      tell('a', 1);
      tell('b', 2);
    };

    it('keeps what they did, as what it was then, and counts them no more', () => {
      pass(10, both);
      model.gone('b');
      expect(model.nodes.map(({ report: { node } }) => node)).toEqual(['a']);
      expect(model.transports).toEqual([['sse', 3]]);
      pass(2, () => tell('a', 1, 6));
      expect(connections(12)).toEqual(Array(12).fill(6));
      expect(model.transports).toEqual([['sse', 6]]);
    });

    it('shows for a minute that one left, and one that says nothing any more', () => {
      pass(3, both);
      now += 1_000;
      model.gone('b');
      now += 1_000;
      expect(model.goneNodes).toMatchObject([
        { report: { node: 'b' }, silent: false, gone: { left: true, agoMs: 1_000 } },
      ]);
      pass(4, () => tell('c', 3));
      expect(model.nodes.map(({ report: { node }, silent }) => [node, silent])).toEqual([
        ['a', true],
        ['c', false],
      ]);
      expect(model.transports).toEqual([['sse', 3]]); // those of the silent one may be with the other by now
      pass(12, () => tell('c', 3));
      expect(model.nodes.map(({ report: { node } }) => node)).toEqual(['c']);
      expect(model.goneNodes.map(({ report: { node }, gone }) => [node, gone?.left])).toEqual([
        ['a', false],
        ['b', true],
      ]);
      pass(31, () => tell('c', 3));
      expect(model.goneNodes).toEqual([]);
    });

    it('takes the word of the server for it that one fell silent', () => {
      pass(3, both);
      pass(5, () => tell('a', 1));
      model.gone('b');
      expect(model.goneNodes).toMatchObject([{ report: { node: 'b' }, gone: { left: false, agoMs: 10_000 } }]);
    });

    it('goes on with what it has when the stream comes back from another node', () => {
      pass(10, both);
      model.begin({ ...hello, node: 'b' });
      model.past({ format: 1, node: 'b', samples: [sample(slotNow() - 1, { connections: 3 })] });
      tell('b', 2);
      expect(connections(10)).toEqual(Array(10).fill(6));
      pass(16, () => tell('b', 2, 6));
      expect(model.nodes.map(({ report: { node } }) => node)).toEqual(['b']);
      expect(model.goneNodes.map(({ report: { node } }) => node)).toEqual(['a']);
      expect(connections(26)).toEqual(Array(26).fill(6));
    });

    it('does not take those for gone that it could not hear itself', () => {
      pass(3, both);
      now += 300_000;
      model.begin({ ...hello, node: 'b' });
      tell('b', 2);
      expect(model.nodes.map(({ report: { node }, silent }) => [node, silent])).toEqual([
        ['a', true],
        ['b', false],
      ]);
      tell('a', 1);
      expect(model.nodes.map(({ silent }) => silent)).toEqual([false, false]);
    });

    it('has one back that speaks again, once, and not for what it said before', () => {
      pass(3, both);
      const samples = [sample(slotNow() - 1, { connections: 3 }), sample(slotNow(), { connections: 3 })];
      model.gone('b');
      model.past({ format: 1, node: 'b', samples });
      tell('b', 2); // as a node keeps it for those who begin to watch
      expect(model.nodes).toHaveLength(1);
      pass(1, both);
      expect(model.nodes).toHaveLength(2);
      expect(model.goneNodes).toEqual([]);
      expect(connections(4)).toEqual([6, 6, 6, 6]);
    });

    it('counts one once that goes on by another name', () => {
      pass(5, both);
      pass(5, () => tell('a', 1));
      const slots = Array.from({ length: 10 }, (_, i) => slotNow() - 9 + i);
      model.past({ format: 1, node: 'b2', samples: slots.map((slot) => sample(slot, { connections: 3 })) });
      tell('b2', 2);
      expect(model.nodes.map(({ report: { node } }) => node)).toEqual(['a', 'b2']);
      expect(model.goneNodes).toEqual([]);
      expect(connections(10)).toEqual(Array(10).fill(6));
    });

    it('takes a process for another one that has the same name and started later', () => {
      pass(5, both);
      model.gone('b');
      pass(5, () => {
        tell('a', 1);
        tell('c', 2, 3, { uptimeMs: 1_000 });
      });
      expect(model.goneNodes.map(({ report: { node } }) => node)).toEqual(['b']);
      expect(connections(10)).toEqual(Array(10).fill(6));
    });

    it('keeps what they did for as long as it is drawn', () => {
      tell('b', 2);
      model.gone('b');
      pass(DRAWN_SAMPLES - 1, () => tell('a', 1));
      expect(connections(DRAWN_SAMPLES)[0]).toBe(3);
      expect(model.nameOfNode('b')).toBe('host:2');
      pass(2, () => tell('a', 1));
      expect(model.nameOfNode('b')).toBeUndefined();
    });

    it('keeps what a bounded number of them did', () => {
      for (let pid = 0; pid < 300; pid++) {
        tell(`node ${pid}`, pid, 1);
        model.gone(`node ${pid}`);
      }
      tell('a', 1, 0);
      expect(model.goneNodes).toHaveLength(256);
      expect(connections(1)).toEqual([256]);
    });
  });

  it('knows that the broker is away, from a node that is heard of', () => {
    const health = (available: boolean): Partial<NodeReport> =>
      ({ health: { broker: { name: 'redis', available } } }) as Partial<NodeReport>;
    const tell = (available: boolean): void =>
      model.report(report('a', { sample: sample(slotNow()), ...health(available) }));
    tell(true);
    expect(model.brokerAway).toBe(false);
    now += INTERVAL_MS;
    tell(false);
    expect(model.brokerAway).toBe(true);
    now += INTERVAL_MS;
    tell(true);
    expect(model.brokerAway).toBe(false);
  });
});
