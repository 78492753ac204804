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
  const rest = { host: 'host', pid: 1, connections: {}, counted, channels: { total: 0, top: [] }, findings: [] };
  return { node, ...rest, ...values } as unknown as NodeReport;
}

describe('what the page knows', () => {
  let model: Model;
  let now: number;
  const slotNow = (): number => Math.floor(now / INTERVAL_MS);

  beforeEach(() => {
    now = 1_000_000;
    jest.spyOn(Date, 'now').mockImplementation(() => now);
    jest.spyOn(performance, 'now').mockImplementation(() => now);
    model = new Model();
    model.begin({ node: 'a', readOnly: true, version: '0', intervalMs: INTERVAL_MS, checks: [] });
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
});
