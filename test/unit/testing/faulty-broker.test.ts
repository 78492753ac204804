import { beforeEach, describe, expect, test } from '@jest/globals';
import { memoryBroker } from '../../../lib/brokers/memory.broker.js';
import type { Retention } from '../../../lib/hub/ports/broker.js';
import { faultyBroker } from '../../../lib/testing/faulty-broker.js';
import type { FaultyBroker, FaultySession } from '../../../lib/testing/faulty-broker.js';
import { RecordingNode } from '../../support/recording-node.js';

const KEEP: Retention = { size: 100, ttlMs: 60_000, metaTtlMs: 120_000 };

describe('FaultyBroker', () => {
  let broker: FaultyBroker;
  let a: RecordingNode;
  let b: RecordingNode;
  let faults: FaultySession;

  beforeEach(async () => {
    broker = faultyBroker(memoryBroker());
    [a, b] = [await RecordingNode.open(broker, 'a'), await RecordingNode.open(broker, 'b')];
    faults = broker.session('b');
    await Promise.all([a.session.subscribe('c'), b.session.subscribe('c')]);
  });

  const append = async (...tags: string[]): Promise<void> => {
    for (const tag of tags) await a.session.append('c', KEEP, tag, [{ event: 'e', data: '1' }]);
  };
  const told = (node: RecordingNode): string[] => node.envelopesOf('c').map(({ tag }) => tag);
  const stored = async (): Promise<string[]> => (await a.session.newest('c', 100)).items.map(({ tag }) => tag);

  test('changes nothing unless it is told to', async () => {
    await append('k1', 'k2');
    expect([told(a), told(b)]).toEqual([
      ['k1', 'k2'],
      ['k1', 'k2'],
    ]);
    expect([broker.name, broker.shared]).toEqual(['memory', false]);
  });

  test('loses, repeats and delays announcements of one session, in order', async () => {
    faults.announcements('envelope', 'lose', 'repeat', 'delay', 'deliver', 'repeat', 'lose');
    await append('k1', 'k2', 'k3', 'k4', 'k5', 'k6');
    expect(told(b)).toEqual(['k2', 'k2']);
    expect(faults.held).toBe(4);
    faults.release(1);
    expect(told(b)).toEqual(['k2', 'k2', 'k3']);
    faults.release();
    expect(told(b)).toEqual(['k2', 'k2', 'k3', 'k4', 'k5', 'k5']);
    expect(told(a)).toEqual(['k1', 'k2', 'k3', 'k4', 'k5', 'k6']);
    await append('k7');
    expect(told(b).at(-1)).toBe('k7');
  });

  test('lets nothing overtake what is held, even if it is caused by what is released', async () => {
    faults.announcements('envelope', 'delay');
    await append('k1', 'k2');
    b.onTold = () => {
      if (b.envelopes.length === 1) void append('k3');
    };
    faults.release();
    expect(told(b)).toEqual(['k1', 'k2', 'k3']);
  });

  test('fails calls, applied or not', async () => {
    faults.calls('append', 'unavailable', 'unapplied', 'applied');
    const call = (tag: string): Promise<unknown> => b.session.append('c', KEEP, tag, [{ event: 'e', data: '1' }]);
    await expect(call('k1')).rejects.toMatchObject({ code: 'broker_unavailable' });
    await expect(call('k2')).rejects.toMatchObject({ code: 'outcome_unknown' });
    await expect(call('k3')).rejects.toMatchObject({ code: 'outcome_unknown' });
    await call('k4');
    expect(await stored()).toEqual(['k3', 'k4']);
  });

  test('delays the answer of a call that is applied', async () => {
    faults.calls('read', 'delay');
    let answer: unknown;
    const read = b.session.read('c', null, 10).then((result) => (answer = result));
    await append('k1');
    expect([faults.waiting, answer]).toEqual([1, undefined]);
    faults.answer();
    expect(await read).toMatchObject({ status: 'ok', top: expect.stringMatching(/-0-0$/) });
  });

  test('is away while paused, and says when it is back', async () => {
    faults.announcements('envelope', 'delay');
    await append('k1');
    faults.pause();
    await append('k2');
    await expect(b.session.tops(['c'])).rejects.toMatchObject({ code: 'broker_unavailable' });
    expect(b.resumed).toBe(0);
    faults.resume();
    await append('k3');
    expect([b.resumed, told(b)]).toEqual([1, ['k3']]);
    await expect(b.session.tops(['c'])).resolves.toHaveLength(1);
  });

  test('heals at once', async () => {
    faults.announcements('envelope', 'delay', 'lose');
    faults.calls('tops', 'unavailable');
    await append('k1');
    faults.heal();
    await append('k2');
    expect(told(b)).toEqual(['k1', 'k2']);
    await expect(b.session.tops(['c'])).resolves.toHaveLength(1);
  });

  test('wipes, diverges and trims', async () => {
    await append('k1', 'k2', 'k3');
    const [before] = await a.session.tops(['c']);
    await broker.diverge('c', 2);
    expect(await stored()).toEqual(['k1', 'k2']);
    expect((await a.session.read('c', before!, 10)).status).toBe('diverged');
    await broker.trim('c');
    expect(await stored()).toEqual([]);
    await broker.wipe();
    expect((await a.session.read('c', before!, 10)).status).toBe('epoch');
    await expect(broker.diverge('c', 1)).rejects.toThrow('not stored');
  });
});
