import { afterEach, describe, expect, it } from '@jest/globals';
import { Fleet, type FleetOptions } from '../../support/fleet.js';
import { Peer } from './peer.js';

const LARGE = 'x'.repeat(2_000);
const history = { size: 3, ttlMs: 60_000 };

let fleet: Fleet;
async function open(options: FleetOptions = {}): Promise<Fleet> {
  fleet = await Fleet.open({ nodes: 1, limits: { inlineBytes: 1_024 }, channels: { news: { history } }, ...options });
  return fleet;
}
afterEach(() => fleet.close());

/** Publishes, and lets it arrive. */
async function publish(event: string, data: unknown): Promise<string> {
  const published = fleet.publish(0, 'news', event, data);
  await fleet.settle();
  return published;
}

/** What a reader inside the process is told. */
function read(channel: string, since?: string): unknown[] {
  const told: unknown[] = [];
  fleet.hubs[0]!.read(channel, since, {
    started: () => told.push('started'),
    publications: ({ items }) => told.push(...items.map(({ event, data }) => [event, data.length])),
    lost: ({ position, reason }) => told.push([reason, position]),
    ended: (error) => told.push(error ?? 'ended'),
  });
  return told;
}

async function subscribe(channel: string, since?: string): Promise<Peer> {
  const peer = new Peer(fleet);
  peer.ask(1, '$subscribe', { channel, since });
  await fleet.settle();
  return peer;
}

const publications = ({ frames }: Peer): unknown[] =>
  frames.filter(({ offset }) => offset !== undefined).map(({ event, data }) => [event, data]);

describe('large data', () => {
  it('is told as the place where it lies, live and after a return', async () => {
    await open();
    const peer = await subscribe('news');
    const first = await publish('small', 1);
    await publish('large', LARGE);
    await publish('small', 2);
    await fleet.settle();
    const told = [
      ['large', { $payload: { since: first, bytes: 2_002 } }],
      ['small', 2],
    ];
    expect(publications(peer)).toEqual([['small', 1], ...told]);
    expect(publications(await subscribe('news', first))).toEqual(told);
    const { items } = await fleet.hubs[0]!.history(fleet.hubs[0]!.match('news'), {
      since: first,
      limit: 1,
      reverse: false,
    });
    expect(items[0]!.data).toBe(JSON.stringify(LARGE));
  });

  it.each([
    ['up to the limit', 'x'.repeat(1_022), true],
    ['above it', 'x'.repeat(1_023), false],
    ['up to the limit, in bytes', 'ü'.repeat(511), true],
    ['above it, in bytes', 'ü'.repeat(512), false],
  ])('counts by its bytes of JSON: %s', async (_, data, whole) => {
    await open();
    const peer = await subscribe('news');
    await publish('e', data);
    await fleet.settle();
    expect(publications(peer)).toEqual([['e', whole ? data : { $payload: expect.anything() }]]);
  });

  it.each([
    ['without history', { history: false as const }, undefined],
    ['that is conflated', { slowConsumer: { conflateBy: () => 'all' } }, undefined],
    ['where the limit is off', {}, { inlineBytes: false as const }],
  ])('travels whole in a channel %s', async (_, channel, limits) => {
    await open({ channels: { news: channel }, limits: limits ?? { inlineBytes: 1_024 } });
    const peer = await subscribe('news');
    await publish('large', LARGE);
    await fleet.settle();
    expect(publications(peer)).toEqual([['large', LARGE]]);
  });

  it('reaches every connection of a user whole: messages to nodes are no publications', async () => {
    await open();
    const peer = await subscribe('news');
    void fleet.hubs[0]!.control.emit({ connection: peer.link.connection.id }, 'large', LARGE);
    await fleet.settle();
    expect(peer.frames.at(-1)).toEqual({ event: 'large', data: LARGE });
  });

  it('cannot be forged', async () => {
    await open();
    const forged = publish('large', { $payload: { since: 'AAAAAA-0-0', bytes: 9 } });
    await expect(forged).rejects.toMatchObject({ code: 'invalid' });
    await expect(publish('e', { a: 1, $payload: 2 })).resolves.toBeDefined();
  });
});

describe('readers inside the process', () => {
  it('get it whole, and what follows after it', async () => {
    await open();
    const told = read('news');
    await fleet.settle();
    for (const [event, data] of [
      ['a', 1],
      ['b', LARGE],
      ['c', 2],
      ['d', LARGE],
    ] as const) {
      await publish(event, data);
    }
    await fleet.settle();
    const whole = [
      ['a', 1],
      ['b', 2_002],
      ['c', 1],
      ['d', 2_002],
    ];
    expect(told).toEqual(['started', ...whole]);
  });

  it('are told what left the history before it was fetched, and go on', async () => {
    await open();
    const told = read('news');
    await fleet.settle();
    // As many in one turn as push the first one out of the history.
    const gone = fleet.publish(0, 'news', 'gone', LARGE);
    for (let i = 1; i <= 5; i++) void fleet.publish(0, 'news', `e${i}`, i);
    await fleet.settle();
    expect(told).toEqual(['started', ['trimmed', await gone], ...[1, 2, 3, 4, 5].map((i) => [`e${i}`, 1])]);
  });
});
