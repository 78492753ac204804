import { beforeEach, describe, expect, it } from '@jest/globals';
import { PAGE_SIZE, Queries, type ConnectionSearch } from '../../../lib/admin/queries.js';
import type { Hub } from '../../../lib/hub/hub.js';
import type { ConnectionInfo } from '../../../lib/hub/ports/broker.js';
import { RealtimeException } from '../../../lib/protocol/errors.js';
import { ManualClock } from '../../../lib/testing/manual-clock.js';

const everything: ConnectionSearch = { text: '', transport: '', node: '', page: 1 };

describe('searching connections', () => {
  let clock: ManualClock;
  let registered: ConnectionInfo[];
  let reads: number;
  let fails: boolean;
  let held: Promise<void> | undefined;
  let queries: Queries;

  beforeEach(() => {
    clock = new ManualClock(1_000_000);
    reads = 0;
    fails = false;
    held = undefined;
    registered = Array.from({ length: 120 }, (_, i) => ({
      id: `connection-${i}`,
      client: `client-${i}`,
      node: `node-${i % 2}`,
      transport: i % 3 === 0 ? 'sse' : 'websocket',
      ...(i % 4 === 0 ? {} : { userId: `User-${i}` }),
      ip: `10.0.0.${i}`,
      endpoint: '0:/realtime',
      params: {},
      openedAt: i,
      channels: ['a', 'b'],
    }));
    const hub = {
      now: () => clock.now(),
      settings: { clock },
      match: () => ({ channel: 'a', definition: { pattern: 'a', retention: { size: 1, ttlMs: 1 }, presence: false } }),
      history: () => Promise.resolve({ position: 'p', items: [] }),
      registered: async () => {
        reads++;
        await held;
        return fails ? Promise.reject(new RealtimeException('broker_unavailable')) : Promise.resolve([...registered]);
      },
    };
    queries = new Queries(hub as unknown as Hub);
  });

  const search = (wish: Partial<ConnectionSearch>): ReturnType<Queries['connections']> =>
    queries.connections({ ...everything, ...wish });

  it('gives one page after another, the newest first', async () => {
    const first = await search({});
    expect(first).toMatchObject({ total: 120, matching: 120, page: 1, pages: 3 });
    expect(first.items).toHaveLength(PAGE_SIZE);
    expect(first.items[0]).toMatchObject({ id: 'connection-119', channels: 2 });
    const last = await search({ page: 99 });
    expect([last.page, last.items.length, last.items.at(-1)!.id]).toEqual([3, 20, 'connection-0']);
    expect((await search({ page: -4 })).page).toBe(1);
  });

  it('finds a part of a user, an address, an id or a client, whatever the case', async () => {
    const ids = async (wish: Partial<ConnectionSearch>): Promise<string[]> =>
      (await search(wish)).items.map(({ id }) => id);
    expect(await ids({ text: 'user-117' })).toEqual(['connection-117']);
    expect(await ids({ text: '10.0.0.118' })).toEqual(['connection-118']);
    expect(await ids({ text: 'CONNECTION-3', node: 'node-1', transport: 'sse' })).toEqual([
      'connection-39',
      'connection-33',
      'connection-3',
    ]);
    expect(await ids({ text: 'client-77' })).toEqual(['connection-77']);
  });

  it('reads the registry once for all who search within 2 s, and keeps nothing longer', async () => {
    await Promise.all([search({}), search({ text: 'user' }), queries.connection('connection-1')]);
    expect(await queries.channel('a', false)).toMatchObject({
      subscribers: { total: 120, byNode: { 'node-0': 60, 'node-1': 60 }, byTransport: { sse: 40, websocket: 80 } },
    });
    expect(reads).toBe(1);
    clock.advance(2_000);
    await search({});
    expect(reads).toBe(2);
    clock.advance(2_000);
    expect(clock.waiting).toBe(0);
  });

  it('looks once at a time, however long that takes', async () => {
    let release: () => void = () => undefined;
    held = new Promise((resolve) => (release = resolve));
    const first = search({});
    clock.advance(60_000);
    const second = search({});
    release();
    await Promise.all([first, second]);
    expect(reads).toBe(1);
    clock.advance(1_999);
    await search({});
    expect(reads).toBe(1);
  });

  it('asks anew after a failure', async () => {
    fails = true;
    await expect(search({})).rejects.toMatchObject({ code: 'broker_unavailable' });
    fails = false;
    expect(await search({})).toMatchObject({ total: 120 });
  });

  it('tells all of one connection, and that there is none', async () => {
    expect(await queries.connection('connection-5')).toEqual({
      id: 'connection-5',
      client: 'client-5',
      node: 'node-1',
      transport: 'websocket',
      userId: 'User-5',
      ip: '10.0.0.5',
      endpoint: '0:/realtime',
      params: {},
      openedAt: 5,
      channels: ['a', 'b'],
    });
    await expect(queries.connection('another')).rejects.toMatchObject({ code: 'gone' });
  });
});
