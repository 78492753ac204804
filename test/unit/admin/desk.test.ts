import { once } from 'node:events';
import { createServer, get, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, it } from '@jest/globals';
import { Desk } from '../../../lib/admin/desk.js';
import { queryOf } from '../../../lib/transports/routes.js';
import { Fleet } from '../../support/fleet.js';

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

it('ends each stream after five minutes, so that guards are asked anew, and forgets it', async () => {
  const fleet = await Fleet.open({ nodes: 1, channels: { news: {} } });
  ends.push(() => fleet.close());
  const [hub] = fleet.hubs;
  const desk = new Desk({ hub: hub!, readOnly: true, checks: [], findings: () => [] });
  await fleet.settled(desk.open());
  const { waiting } = fleet.clock;
  const server = createServer((request, response) => {
    const exchange = { request, response, query: queryOf(request.url), refuse: () => undefined };
    if (request.url!.startsWith('/tail')) desk.tail(exchange);
    else desk.stream(exchange);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  ends.push(async () => {
    server.close();
    server.closeAllConnections();
    await once(server, 'close');
  });
  const { port } = server.address() as AddressInfo;
  const open = async (path: string): Promise<IncomingMessage> => {
    const [response] = (await once(get({ host: '127.0.0.1', port, path }), 'response')) as [IncomingMessage];
    return response.resume();
  };
  const streams = [await open('/stream'), await open('/tail?channel=news')];
  await fleet.settle();
  const over = streams.map((stream) => once(stream, 'end'));
  await fleet.pass(299_000, 1_000);
  expect(streams.map(({ readableEnded }) => readableEnded)).toEqual([false, false]);
  await fleet.pass(1_000);
  await Promise.all(over);
  expect(fleet.clock.waiting).toBe(waiting);
});
