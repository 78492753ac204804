import { afterEach, expect, it } from '@jest/globals';
import type { EventStream } from '../../../lib/admin/event-stream.js';
import { tail, TAILED_PER_SECOND } from '../../../lib/admin/tail.js';
import { Fleet } from '../../support/fleet.js';

let fleet: Fleet | undefined;
afterEach(() => fleet?.close());

it('shows the first publications of a second and how many more there were, and cuts what is long', async () => {
  fleet = await Fleet.open({ nodes: 1, channels: { news: {} } });
  const told: { event: string; data: any }[] = [];
  let over: () => void = () => undefined;
  let beats = 0;
  const stream = {
    send: (event: string, data: string) => void told.push({ event, data: JSON.parse(data) }),
    beat: () => beats++,
    end: () => over(),
  };
  tail(fleet.hubs[0]!, 'news', (ended) => {
    over = ended;
    return stream as unknown as EventStream;
  });
  await fleet.settle();
  for (let i = 0; i < TAILED_PER_SECOND + 9; i++) void fleet.publish(0, 'news', 'n', i);
  await fleet.pass(1_000);
  const of = (event: string): any[] => told.filter((each) => each.event === event).map(({ data }) => data);
  expect(of('publication').map(({ data }) => Number(data))).toEqual(
    Array.from({ length: TAILED_PER_SECOND }, (_, i) => i),
  );
  expect(of('skipped')).toEqual([{ count: 9 }]);
  await fleet.pass(1_000);
  expect(beats).toBe(1);
  await fleet.settled(fleet.publish(0, 'news', 'long', 'x'.repeat(10_000)));
  const last = of('publication').at(-1);
  expect([last.data.length, last.length]).toEqual([4_096, 10_002]);

  const { waiting } = fleet.clock;
  over();
  expect(fleet.clock.waiting).toBe(waiting - 1);
  await fleet.settled(fleet.publish(0, 'news', 'after', 1));
  expect(of('publication').at(-1)).toEqual(last);
});
