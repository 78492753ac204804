import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Fleet } from '../../support/fleet.js';
import type { ReceivedFrame } from '../../support/test-link.js';
import { Peer } from './peer.js';

const CHECK_MS = 10_000;
const LATE_MS = 500;

describe.each([
  ['plain.a', false],
  ['kept.a', true],
])('the periodic check of %s (history: %s)', (channel, hasHistory) => {
  let fleet: Fleet;
  let peer: Peer;

  beforeEach(async () => {
    fleet = await Fleet.open({
      checkIntervalMs: CHECK_MS,
      channels: { 'plain.:name': { subscribe: true, history: false }, 'kept.:name': { subscribe: true } },
    });
    peer = new Peer(fleet);
    await fleet.settle();
    peer.ask(1, '$subscribe', { channel });
    await fleet.settle();
    peer.frames.length = 0;
  });

  afterEach(() => fleet.close());

  const publish = async (data: unknown): Promise<string> => {
    const published = fleet.publish(1, channel, 'n', data);
    await fleet.settle();
    return published;
  };
  const data = (frames: readonly ReceivedFrame[]): unknown[] => frames.map((frame) => frame.data);
  const lost = { event: '$lost', channel };

  it('takes announcements that are late for no loss', async () => {
    const faults = fleet.faults(0);
    faults.announcements('envelope', 'delay');
    await publish(1);
    await publish(2);
    await fleet.pass(CHECK_MS);
    faults.release();
    await fleet.pass(CHECK_MS);
    expect(data(peer.frames)).toEqual([1, 2]);
  });

  it('takes a top that it passes before the answer for no loss', async () => {
    const faults = fleet.faults(0);
    faults.calls('tops', 'delay');
    faults.announcements('envelope', 'delay');
    await publish(1);
    await fleet.pass(CHECK_MS);
    expect(faults.waiting).toBe(1);
    faults.release();
    await publish(2);
    faults.announcements('envelope', 'delay');
    await publish(3);
    faults.answer();
    await fleet.settle();
    faults.release();
    await fleet.pass(CHECK_MS);
    expect(data(peer.frames)).toEqual([1, 2, 3]);
  });

  it('finds an announcement that was lost', async () => {
    fleet.faults(0).announcements('envelope', 'lose');
    const position = await publish(1);
    await fleet.pass(CHECK_MS + LATE_MS);
    if (hasHistory) expect(data(peer.frames)).toEqual([1]);
    else expect(peer.frames).toMatchObject([{ ...lost, data: { position } }]);
    await publish(2);
    expect(peer.frames[1]).toMatchObject({ data: 2 });
  });
});
