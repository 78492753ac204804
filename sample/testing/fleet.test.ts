import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { Test } from '@nestjs/testing';
import { REALTIME_BROKER, RealtimeService } from 'nestjs-realtime';
import { createTestFleet, type TestFleet } from 'nestjs-realtime/testing';
import { AppModule } from './app.module.js';
import { tokenOf } from './tokens.js';

let fleet: TestFleet;
beforeEach(async () => {
  fleet = await createTestFleet({
    nodes: 2,
    create: async ({ broker }) => {
      const module = await Test.createTestingModule({ imports: [AppModule] })
        .overrideProvider(REALTIME_BROKER)
        .useValue(broker)
        .compile();
      return module.createNestApplication({ logger: false });
    },
  });
});
afterEach(() => fleet.close());

const publish = (node: number, text: string): Promise<string> =>
  fleet.apps[node]!.get(RealtimeService).publish('chat.lobby', 'message', { text });

it('what one node publishes reaches the peers of both', async () => {
  const ann = await fleet.connect({ node: 0, token: await tokenOf('ann'), channels: ['chat.lobby'] });
  const bob = await fleet.connect({ node: 1, token: await tokenOf('bob'), channels: ['chat.lobby'] });
  await publish(0, 'one');
  await publish(1, 'two');
  for (const client of [ann, bob]) {
    expect(await client.settle()).toMatchObject([{ data: { text: 'one' } }, { data: { text: 'two' } }]);
  }
});

it.each(['websocket', 'sse', 'long-polling'] as const)(
  'a client over %s misses nothing while one node after the other is restarted',
  async (transport) => {
    const client = await fleet.connect({ transport, token: await tokenOf('bob'), channels: ['chat.lobby'] });
    let offset = 0;
    for (const node of [0, 1]) {
      const restarted = fleet.restart(node);
      await publish(1 - node, 'meanwhile');
      await restarted;
      await publish(node, 'by the successor');
      expect(await client.next('message')).toMatchObject({ offset: ++offset, data: { text: 'meanwhile' } });
      expect(await client.next('message')).toMatchObject({ offset: ++offset, data: { text: 'by the successor' } });
    }
    const rest = await client.settle();
    expect(rest.filter(({ event }) => event !== '$recovered')).toEqual([]);
  },
);

it('a node that is cut off from the broker says so, and its peers catch up afterwards', async () => {
  const client = await fleet.connect({ node: 1, token: await tokenOf('bob'), channels: ['chat.lobby'] });
  fleet.isolate(1);
  await expect(publish(1, 'refused')).rejects.toMatchObject({ code: 'broker_unavailable' });
  await publish(0, 'meanwhile');
  expect(await client.settle()).toEqual([]);
  fleet.rejoin(1);
  expect(await client.next()).toMatchObject({ offset: 1, data: { text: 'meanwhile' } });
});
