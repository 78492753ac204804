import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { RealtimeClient } from '../../../lib/client/index.js';
import { ManualClock } from '../../../lib/testing/manual-clock.js';
import { until } from '../../support/redis-server.js';
import { installTabLocks } from '../../support/tab-locks.js';
import { answer, FakeTransport, position, type FakeLink } from './fake-transport.js';

const URL = 'https://example.com/realtime';
const KEY = `nestjs-realtime ${URL} ada`;

let uninstall: () => void;
let clock: ManualClock;
let transport: FakeTransport;
let clients: RealtimeClient[];

beforeEach(() => {
  uninstall = installTabLocks();
  clock = new ManualClock(1_700_000_000_000);
  transport = new FakeTransport();
  clients = [];
  transport.onOpen = (link) => link.open();
});

afterEach(() => {
  for (const client of clients) client.close();
  uninstall();
});

/** A tab; all connect over one fake transport. `told`: what its channel was told, in order. */
function openTab(): { client: RealtimeClient; told: unknown[] } {
  const client = new RealtimeClient(URL, { share: 'ada', clock, transports: [transport], random: () => 0 });
  clients.push(client);
  const told: unknown[] = [];
  const chat = client.channel<{ message: unknown }>('chat');
  chat.on('message', (data) => told.push(data));
  chat.on('lost', ({ reason }) => told.push(`lost: ${reason}`));
  chat.on('recovered', ({ count }) => told.push(`recovered: ${count}`));
  chat.on('unsubscribed', ({ code }) => told.push(`unsubscribed: ${code}`));
  chat.on('error', ({ code }) => told.push(`error: ${code}`));
  return { client, told };
}

const sent = async (event: string, count = 1): Promise<FakeLink> => {
  await until(() => transport.links.at(-1)?.count(event) === count, `${count} ${event}`);
  return transport.link;
};

/** Two tabs whose connection is in the channel, at 5; the second one has lost its link at 5, and is back at 8. */
async function comeLate() {
  const [ada, bob] = [openTab(), openTab()];
  const link = await sent('$subscribe');
  link.answer('$subscribe', answer(5));
  await until(() => [ada, bob].every(({ client }) => client.channel('chat').state === 'subscribed'), 'two tabs');
  bob.client.reconnect();
  for (const offset of [6, 7, 8]) link.publication('chat', offset);
  await until(() => ada.told.length === 3, 'publications');
  clock.advance(1_000);
  await sent('$history');
  return { ada, bob, link };
}

const page = (from: number, to: number, top = to): Record<string, unknown> => ({
  position: position(top),
  publications: Array.from({ length: to - from + 1 }, (_, i) => {
    const offset = from + i;
    return { event: 'message', data: offset, offset, tag: `t${offset}` };
  }),
});

describe('a tab that comes later', () => {
  test('reads what it missed page by page, and what comes meanwhile follows', async () => {
    const { ada, bob, link } = await comeLate();
    expect(link.last('$history').data).toEqual({ channel: 'chat', since: position(5) });
    link.publication('chat', 9);
    link.answer('$history', page(6, 7, 9));
    await sent('$history', 2);
    expect(link.last('$history').data).toEqual({ channel: 'chat', since: position(7) });
    link.publication('chat', 10);
    link.answer('$history', page(8, 10));
    link.publication('chat', 11);
    await until(() => bob.told.at(-1) === 11, 'the last one');
    expect(bob.told).toEqual([6, 7, 8, 'recovered: 3', 9, 10, 11]);
    expect(ada.told).toEqual([6, 7, 8, 9, 10, 11]);
    expect(link.count('$subscribe')).toBe(1);
  });

  test('is told what history has no more: at once, or in the midst of it', async () => {
    const first = await comeLate();
    first.link.refuse('$history', { code: 'position_lost' });
    first.link.publication('chat', 9);
    await until(() => first.bob.told.at(-1) === 9, 'the last one');
    expect(first.bob.told).toEqual(['lost: unrecovered', 9]);

    first.bob.client.reconnect();
    first.link.publication('chat', 10);
    first.link.publication('chat', 11);
    await until(() => first.ada.told.at(-1) === 11, 'publications');
    clock.advance(1_000);
    const link = await sent('$history', 2);
    link.answer('$history', page(10, 10, 11));
    await sent('$history', 3);
    link.refuse('$history', { code: 'position_lost' });
    link.publication('chat', 12);
    await until(() => first.bob.told.at(-1) === 12, 'the last one');
    expect(first.bob.told.slice(2)).toEqual([10, 'lost: trimmed', 12]);
  });

  test('tries again where the history could not be read', async () => {
    const { bob, link } = await comeLate();
    link.refuse('$history', { code: 'broker_unavailable' });
    await until(() => bob.told.length === 1, 'the error');
    clock.advance(1_000);
    await sent('$history', 2);
    link.answer('$history', page(6, 8));
    await until(() => bob.told.at(-1) === 'recovered: 3', 'the recovery');
    expect(bob.told).toEqual(['error: broker_unavailable', 6, 7, 8, 'recovered: 3']);
  });

  test('may leave before it has caught up, and the others stay', async () => {
    const { ada, bob, link } = await comeLate();
    await bob.client.channel('chat').unsubscribe();
    link.answer('$history', page(6, 8));
    link.publication('chat', 9);
    await until(() => ada.told.at(-1) === 9, 'the last one');
    expect(bob.told).toEqual([]);
    expect(link.count('$unsubscribe')).toBe(0);
  });

  test('is told the end of the subscription behind what it missed', async () => {
    const { ada, bob, link } = await comeLate();
    const data = { code: 'forbidden', reason: 'Not any more', resubscribe: false };
    link.frame({ channel: 'chat', event: '$unsubscribed', data });
    link.answer('$history', page(6, 8));
    await until(() => bob.told.length === 5, 'the end');
    expect(bob.told).toEqual([6, 7, 8, 'recovered: 3', 'unsubscribed: forbidden']);
    expect(ada.told).toEqual([6, 7, 8, 'unsubscribed: forbidden']);
  });
});

describe('tabs that subscribe at once', () => {
  test('wait for the first one: it takes them all along, or the next one asks', async () => {
    const tabs = [openTab(), openTab(), openTab()];
    const link = await sent('$subscribe');
    await until(() => tabs.every(({ client }) => client.state === 'open'), 'three tabs');
    link.refuse('$subscribe', { code: 'broker_unavailable' });
    await sent('$subscribe', 2);
    link.answer('$subscribe', answer(5));
    await until(
      () => tabs.filter(({ client }) => client.channel('chat').state === 'subscribed').length === 2,
      'two tabs',
    );
    clock.advance(1_000);
    await until(() => tabs.every(({ client }) => client.channel('chat').state === 'subscribed'), 'three tabs');
    expect(link.count('$subscribe')).toBe(2);
  });

  test('may leave while the first one is asked: nothing stays subscribed', async () => {
    const [ada, bob] = [openTab(), openTab()];
    const link = await sent('$subscribe');
    await until(() => bob.client.state === 'open', 'two tabs');
    const left = [ada, bob].map(({ client }) => client.channel('chat').unsubscribe());
    link.answer('$subscribe', answer(5));
    await Promise.all(left);
    await sent('$unsubscribe');
    expect(link.count('$subscribe')).toBe(1);
  });
});

describe('a tab that holds the connection and is not to be heard', () => {
  /** Holds the lock, as a page does that its browser has stopped. Resolves once it is stolen. */
  const holdSilently = (options: LockOptions): Promise<unknown> =>
    navigator.locks.request(KEY, options, () => new Promise(() => {})).catch(() => 'stolen');

  test('loses it to one that opens, after 4 s', async () => {
    const stolen = holdSilently({});
    const { client } = openTab();
    await until(() => clock.waiting >= 2, 'the limit of time'); // of the link, and of the attempt
    clock.advance(3_999);
    expect(transport.links).toHaveLength(0);
    clock.advance(1);
    expect(await stolen).toBe('stolen');
    await until(() => client.state === 'open', 'the connection');
  });

  test('loses it to one that is open, which asks every 15 s', async () => {
    const { client } = openTab();
    await until(() => client.state === 'open', 'the connection');
    const stolen = holdSilently({ steal: true });
    await until(() => transport.link.closed === true, 'the end of the connection');
    clock.advance(15_000);
    expect(client.state).toBe('open');
    clock.advance(4_000);
    expect(client.state).toBe('waiting');
    clock.advance(1_000);
    await until(() => clock.waiting >= 2, 'the next link');
    clock.advance(4_000);
    expect(await stolen).toBe('stolen');
    await until(() => client.state === 'open', 'the connection');
    expect(transport.links).toHaveLength(2);
  });
});

test('a sandboxed frame, which is refused locks, has a connection of its own', async () => {
  Object.defineProperty(globalThis, 'origin', { value: 'null', configurable: true });
  try {
    const tabs = [openTab(), openTab()];
    await until(() => tabs.every(({ client }) => client.state === 'open'), 'two connections');
    expect(transport.links).toHaveLength(2);
  } finally {
    Reflect.deleteProperty(globalThis, 'origin');
  }
});

test('a browser without locks gives each tab a connection of its own', async () => {
  uninstall();
  const [ada, bob] = [openTab(), openTab()];
  await until(() => [ada, bob].every(({ client }) => client.state === 'open'), 'two connections');
  expect(transport.links).toHaveLength(2);
});

test('a publish without echo and without an answer is withheld by the hub, from all tabs', async () => {
  const { client, told } = openTab();
  const link = await sent('$subscribe');
  link.answer('$subscribe', answer(5));
  await client.channel('chat').subscribe();
  client.send('$publish', { channel: 'chat', event: 'message', data: 6, echo: false });
  await sent('$publish');
  expect(link.last('$publish').data).toMatchObject({ echo: false });
  link.publication('chat', 6, 'of somebody else');
  await until(() => told.length === 1, 'the publication');
  expect(told).toEqual(['of somebody else']);
});

test('the ids of a connection leave room in the largest frame', async () => {
  const { client } = openTab();
  await until(() => client.state === 'open', 'the connection');
  const frame = (length: number): Promise<unknown> => client.request('say', 'x'.repeat(length));
  await expect(frame(65_536 - 30)).rejects.toMatchObject({ code: 'frame_too_large' });
  const pending = frame(65_536 - 60);
  const link = await sent('say');
  expect(JSON.stringify(link.last('say')).length).toBeLessThanOrEqual(65_536);
  link.answer('say', 'heard');
  expect(await pending).toBe('heard');
});
