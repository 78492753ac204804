import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { revocationKey, type Revocation } from '../../lib/hub/ports/revocation.js';
import type {
  AppendItem,
  Broker,
  ConnectionInfo,
  Envelope,
  RegisteredConnection,
  Retention,
} from '../../lib/hub/ports/broker.js';
import { formatPosition, parsePosition } from '../../lib/protocol/position.js';
import type { Position } from '../../lib/protocol/position.js';
import type { LogSurgery } from '../../lib/testing/log-surgery.js';
import { HubNode } from '../support/hub-node.js';
import { RecordingNode } from '../support/recording-node.js';

/** A store under test, empty at first. */
export interface BrokerHarness {
  /** A broker for one more node of the store: the same value each time, or another that is joined to it. */
  broker(): Broker;
  /** The store's time, ms since 1970. */
  now(): number;
  /** Lets time pass, as the store sees it. */
  pass(ms: number): Promise<void>;
  /** Operations on the data, where the test can do them. */
  readonly surgery?: LogSurgery;
  /** Ends what the harness started; the suite has closed all sessions. */
  dispose(): Promise<void>;
}

/** What a broker under test offers. */
export interface BrokerCapabilities {
  /** `manual`: a pass of hours costs nothing. `real`: the suite waits, and leaves out what takes minutes. */
  readonly time: 'manual' | 'real';
  /** What the suite takes as a short while, where the machine is not too slow for it: all its times are multiples. */
  readonly unitMs: number;
  /** Whether the harness offers surgery. */
  readonly surgery: boolean;
  /** How many idempotency keys above 1,000 may still be known, where the broker prunes in lots. */
  readonly keySlack: number;
}

/** The longest unit that is tried, as a multiple of the first, and how long a test may take with all units up to it. */
const MAX_UNITS = 64;
const TIMED_MS = 180_000;

/**
 * The contract of a broker, as tests: the log, idempotency keys, presence and the registry. Runs for every implementation.
 *
 * That something does not arrive is shown by what follows it on the same way and does arrive.
 */
export function describeBroker(
  name: string,
  make: () => BrokerHarness | Promise<BrokerHarness>,
  capabilities: BrokerCapabilities,
): void {
  const leftOut = (_title: string, _test: () => Promise<void>): void => undefined;
  const withManualTime = capabilities.time === 'manual' ? test : leftOut;
  const withSurgery = capabilities.surgery ? test : leftOut;

  const HOUR_MS = 3_600_000;
  const KEEP: Retention = { size: 100, ttlMs: HOUR_MS, metaTtlMs: 24 * HOUR_MS };
  const item = (data: unknown, extra: Partial<AppendItem> = {}): AppendItem => {
    return { event: 'e', data: JSON.stringify(data), ...extra };
  };
  const items = (count: number): AppendItem[] => Array.from({ length: count }, (_, i) => item(i + 1));
  const offsetOf = (position: Position | undefined): number => parsePosition(position)!.offset;
  const epochOf = (position: Position | undefined): string => parsePosition(position)!.epoch;

  describe(`broker: ${name}`, () => {
    let harness: BrokerHarness;
    let nodes: RecordingNode[];
    let hubs: HubNode[];
    let a: RecordingNode;
    let b: RecordingNode;

    async function open(node: string): Promise<RecordingNode> {
      const opened = await RecordingNode.open(harness.broker(), node);
      nodes.push(opened);
      return opened;
    }

    async function openHub(): Promise<HubNode> {
      const opened = await HubNode.open(harness.broker());
      hubs.push(opened);
      return opened;
    }

    async function setUp(): Promise<void> {
      harness = await make();
      nodes = [];
      hubs = [];
      a = await open('a');
      b = await open('b');
    }

    async function tearDown(): Promise<void> {
      try {
        await Promise.all(nodes.map((node) => node.session.close()));
        await Promise.all(hubs.map(({ hub }) => hub.close()));
      } finally {
        await harness.dispose();
      }
    }

    beforeEach(setUp);
    afterEach(tearDown);

    /**
     * A test of times: between what it does and what it looks at no more time passes than it lets pass, by less than a
     * unit. Where the machine did not keep to that, what was seen says nothing: a test that fails then is run anew, on
     * an empty store, with a longer unit.
     */
    function timed(
      title: string,
      act: (unitMs: number, pass: (units: number) => Promise<void>) => Promise<void>,
    ): void {
      const attempt = async (unitMs: number): Promise<void> => {
        const startedAt = harness.now();
        let passed = 0;
        const pass = (units: number): Promise<void> => {
          passed += units * unitMs;
          return harness.pass(units * unitMs);
        };
        try {
          await act(unitMs, pass);
        } catch (error) {
          const late = harness.now() - startedAt - passed;
          if (late < unitMs || unitMs >= MAX_UNITS * capabilities.unitMs) throw error;
          await tearDown();
          await setUp();
          await attempt(4 * unitMs);
        }
      };
      test(title, () => attempt(capabilities.unitMs), TIMED_MS);
    }

    /** Appends `count` publications, one call and one tag each (`t1`, `t2`, …); their positions. */
    async function appendEach(channel: string, count: number, retention = KEEP): Promise<Position[]> {
      const positions: Position[] = [];
      for (let i = 1; i <= count; i++) {
        const { results } = await a.session.append(channel, retention, `t${i}`, [item(i)]);
        positions.push(results[0]!.position);
      }
      return positions;
    }

    async function topOf(channel: string, node = a): Promise<Position> {
      return (await node.session.tops([channel]))[0]!;
    }

    /** Resolves once a node was told the publication that this appends, hence all that was announced before. */
    async function fence(channel: string, ...told: RecordingNode[]): Promise<void> {
      const { results } = await a.session.append(channel, KEEP, 'fence', [item('fence')]);
      const offset = offsetOf(results[0]!.position);
      for (const node of told) {
        const seen = (): boolean => node.envelopesOf(channel).some(({ first }) => first === offset);
        await node.until(seen, `publication ${offset} of ${channel}`);
      }
    }

    describe('append', () => {
      test('D1.1 creates the log with a random epoch, offset 0 and tag 0 as what was before', async () => {
        const first = await a.session.append('c', KEEP, 'k1', [item(1)]);
        const other = await a.session.append('d', KEEP, 'k1', [item(1)]);
        expect(first.epoch).toMatch(/^[0-9A-Za-z]{6}$/);
        expect(first.prev).toEqual({ offset: 0, tag: '0' });
        expect(first.results).toEqual([{ position: formatPosition(first.epoch, 1, 'k1'), repeated: false }]);
        expect(other.epoch).not.toBe(first.epoch);
      });

      test('D1.1 gives offsets one by one and one tag per call; prev is the top before the call', async () => {
        const { epoch } = await a.session.append('c', KEEP, 'k1', items(3));
        const second = await b.session.append('c', KEEP, 'k2', items(2));
        expect(second).toEqual({
          epoch,
          prev: { offset: 3, tag: 'k1' },
          tag: 'k2',
          results: [
            { position: formatPosition(epoch, 4, 'k2'), repeated: false },
            { position: formatPosition(epoch, 5, 'k2'), repeated: false },
          ],
        });
        expect(await topOf('c')).toBe(formatPosition(epoch, 5, 'k2'));
      });

      test('D1.1 announces one envelope per call to every subscribed node, its own included', async () => {
        await Promise.all([a.session.subscribe('c'), b.session.subscribe('c')]);
        const { epoch } = await a.session.append('c', KEEP, 'k1', [item(1)]);
        await a.session.append('c', KEEP, 'k2', [item({ n: 2 }, { exclude: 'client' }), item('x', { event: 'other' })]);
        await fence('c', a, b);
        const expected: Envelope[] = [
          { epoch, prev: { offset: 0, tag: '0' }, first: 1, tag: 'k1', items: [{ event: 'e', data: '1' }] },
          {
            epoch,
            prev: { offset: 1, tag: 'k1' },
            first: 2,
            tag: 'k2',
            items: [
              { event: 'e', data: '{"n":2}', exclude: 'client' },
              { event: 'other', data: '"x"' },
            ],
          },
        ];
        expect(a.envelopesOf('c').slice(0, -1)).toEqual(expected);
        expect(b.envelopesOf('c').slice(0, -1)).toEqual(expected);
      });

      test('D1.1 keeps data and event exactly, in the announcement and in the history', async () => {
        const texts = ['{ "a" : 1 }', '"\\u0000 é 漢 🎈 \u2028"', '""', JSON.stringify('x'.repeat(100_000)), 'null'];
        const given = texts.map((data, i) => ({ event: `é 漢🎈 ${i}`, data, exclude: `ü ${i}` }));
        await b.session.subscribe('c');
        await a.session.append('c', KEEP, 'k1', given);
        await fence('c', b);
        expect(b.envelopesOf('c')[0]?.items).toEqual(given);
        const { items: stored } = await b.session.newest('c', 100);
        expect(stored.slice(0, -1)).toEqual(given.map((one, i) => ({ offset: i + 1, tag: 'k1', ...one })));
      });

      test('D1.1 gives the note of a call to the nodes, with keys and without, and does not store it', async () => {
        await b.session.subscribe('c');
        await a.session.append('c', KEEP, 'k1', items(2), 'm1x2');
        await a.session.append('c', KEEP, 'k2', [item(3, { key: 'k' }), item(4)], 'm1x3/0.00-ab-cd-01');
        await a.session.append('c', KEEP, 'k3', [item(5, { key: 'k' })], 'm1x4');
        await fence('c', b);
        const told = b.envelopesOf('c').map(({ items: { length }, note }) => [length, note]);
        expect(told).toEqual([
          [2, 'm1x2'],
          [2, 'm1x3/0.00-ab-cd-01'],
          [1, undefined],
        ]);
        const { items: stored } = await b.session.newest('c', 1);
        expect(stored[0]).not.toHaveProperty('note');
      });

      test('D1.1 takes a turn of 500 publications in one call', async () => {
        await b.session.subscribe('c');
        const { results } = await a.session.append('c', { ...KEEP, size: 1_000 }, 'k1', items(500));
        expect(results.map(({ position }) => offsetOf(position))).toEqual(items(500).map((_, i) => i + 1));
        await b.until(() => b.envelopes.length > 0, 'the envelope');
        expect(b.envelopesOf('c')[0]?.items).toHaveLength(500);
      });

      test('D1.1 appends and announces nothing for a call without publications', async () => {
        const [top] = await appendEach('c', 1);
        await b.session.subscribe('c');
        const result = await a.session.append('c', KEEP, 'k9', []);
        expect(result).toMatchObject({ epoch: epochOf(top), prev: { offset: 1, tag: 't1' }, results: [] });
        expect(await topOf('c')).toBe(top);
        await fence('c', b);
        expect(b.envelopesOf('c')).toHaveLength(1);
      });

      test('D1.1 keeps size + 1 publications, exactly', async () => {
        await a.session.append('c', { ...KEEP, size: 3 }, 'k1', items(10));
        const { items: stored } = await a.session.newest('c', 100);
        expect(stored.map(({ offset }) => offset)).toEqual([7, 8, 9, 10]);
      });

      test('D1.1 keeps what the latest call asks for', async () => {
        await a.session.append('c', { ...KEEP, size: 9 }, 'k1', items(10));
        await a.session.append('c', { ...KEEP, size: 1 }, 'k2', [item(11)]);
        expect((await a.session.newest('c', 100)).items.map(({ offset }) => offset)).toEqual([10, 11]);
        await a.session.append('c', { ...KEEP, size: 9 }, 'k3', [item(12)]);
        expect((await a.session.newest('c', 100)).items.map(({ offset }) => offset)).toEqual([10, 11, 12]);
      });

      test('D1.1 stores nothing with size 0, and still counts and announces', async () => {
        const none = { ...KEEP, size: 0 };
        await b.session.subscribe('c');
        const { epoch } = await a.session.append('c', none, 'k1', items(2));
        await a.session.append('c', none, 'k2', items(1));
        const top = formatPosition(epoch, 3, 'k2');
        expect(await a.session.newest('c', 100)).toEqual({ top, items: [] });
        expect(await a.session.read('c', top, 100)).toEqual({ status: 'ok', top, items: [], more: false });
        expect((await a.session.read('c', formatPosition(epoch, 2, 'k1'), 100)).status).toBe('trimmed');
        expect((await a.session.read('c', formatPosition(epoch, 3, 'k1'), 100)).status).toBe('diverged');
        await fence('c', b);
        expect(b.envelopesOf('c').map(({ prev, first }) => [prev.offset, first])).toEqual([
          [0, 1],
          [2, 3],
          [3, 4],
        ]);
      });

      test('D1.1 drops what was stored when size becomes 0', async () => {
        await a.session.append('c', KEEP, 'k1', items(3));
        await a.session.append('c', { ...KEEP, size: 0 }, 'k2', items(1));
        expect((await a.session.newest('c', 100)).items).toEqual([]);
      });

      test('D1.1 applies the calls of a session in their order, though none is awaited', async () => {
        await b.session.subscribe('c');
        const results = await Promise.all(items(50).map((one, i) => a.session.append('c', KEEP, `k${i + 1}`, [one])));
        expect(results.map((result) => result.results[0]?.position)).toEqual(
          results.map(({ epoch }, i) => formatPosition(epoch, i + 1, `k${i + 1}`)),
        );
        await b.until(() => b.envelopes.length === 50, '50 envelopes');
        expect(b.envelopesOf('c').map(({ items: [one] }) => one?.data)).toEqual(items(50).map(({ data }) => data));
      });

      test('D1.1, P1 chains the calls of two nodes, and announces them in that order to both', async () => {
        await Promise.all([a.session.subscribe('c'), b.session.subscribe('c')]);
        const calls = Array.from({ length: 40 }, (_, i) => {
          return (i % 2 ? a : b).session.append('c', KEEP, `k${i}`, items((i % 3) + 1));
        });
        const results = (await Promise.all(calls)).sort((x, y) => x.prev.offset - y.prev.offset);
        let top = { offset: 0, tag: '0' };
        for (const { prev, tag, results: appended } of results) {
          expect(prev).toEqual(top);
          top = { offset: top.offset + appended.length, tag };
        }
        const expected = results.map(({ prev, tag }) => ({ prev, first: prev.offset + 1, tag }));
        for (const node of [a, b]) {
          await node.until(() => node.envelopes.length === 40, '40 envelopes');
          expect(node.envelopesOf('c').map(({ prev, first, tag }) => ({ prev, first, tag }))).toEqual(expected);
        }
      });

      test('D1.1 keeps channels apart, whatever their names hold', async () => {
        const channels = [
          'c',
          'c*',
          '*',
          '?',
          '[c]',
          '{c}',
          '{c',
          'c:c',
          'c c',
          'C',
          'ü',
          '漢🎈',
          'c\n',
          '%',
          '\\',
          '"',
        ];
        await Promise.all(channels.map((channel) => b.session.subscribe(channel)));
        await Promise.all(channels.map((channel) => a.session.append(channel, KEEP, 'k1', [item(channel)])));
        await b.until(() => b.envelopes.length >= channels.length, 'an envelope of each channel');
        for (const channel of channels) {
          expect(b.envelopesOf(channel).map(({ items: [one] }) => one?.data)).toEqual([JSON.stringify(channel)]);
          expect((await b.session.newest(channel, 100)).items).toHaveLength(1);
        }
      });
    });

    describe('idempotency keys', () => {
      test('D1.1, P7 answers the first position to a known key, appends nothing and announces nothing', async () => {
        await b.session.subscribe('c');
        const first = await a.session.append('c', KEEP, 'k1', [item(1, { key: 'x' })]);
        await a.session.append('c', KEEP, 'k2', [item(2)]);
        const again = await b.session.append('c', KEEP, 'k3', [item(3, { key: 'x' })]);
        expect(again).toMatchObject({
          epoch: first.epoch,
          prev: { offset: 2, tag: 'k2' },
          results: [{ position: first.results[0]?.position, repeated: true }],
        });
        await fence('c', b);
        expect(b.envelopesOf('c').map(({ tag }) => tag)).toEqual(['k1', 'k2', 'fence']);
      });

      test('D1.1, P7 knows a key that stands earlier in the same call', async () => {
        const { epoch, results } = await a.session.append('c', KEEP, 'k1', [
          item(1, { key: 'x' }),
          item(2),
          item(3, { key: 'x' }),
          item(4, { key: 'y' }),
        ]);
        expect(results).toEqual([
          { position: formatPosition(epoch, 1, 'k1'), repeated: false },
          { position: formatPosition(epoch, 2, 'k1'), repeated: false },
          { position: formatPosition(epoch, 1, 'k1'), repeated: true },
          { position: formatPosition(epoch, 3, 'k1'), repeated: false },
        ]);
      });

      test('D1.1 announces only what was appended of a call', async () => {
        await b.session.subscribe('c');
        await a.session.append('c', KEEP, 'k1', [item(1, { key: 'x' })]);
        await a.session.append('c', KEEP, 'k2', [item(2), item(1, { key: 'x' }), item(3)]);
        await b.until(() => b.envelopes.length === 2, 'two envelopes');
        expect(b.envelopesOf('c')[1]).toMatchObject({ first: 2, items: [{ data: '2' }, { data: '3' }] });
      });

      test('P7 makes one entry of concurrent calls with one key from two nodes', async () => {
        const calls = items(30).map((_, i) => {
          return (i % 2 ? a : b).session.append('c', KEEP, `k${i}`, [item(i, { key: 'x' })]);
        });
        const results = (await Promise.all(calls)).map((result) => result.results[0]!);
        expect(new Set(results.map(({ position }) => position)).size).toBe(1);
        expect(results.filter(({ repeated }) => !repeated)).toHaveLength(1);
        expect((await a.session.newest('c', 100)).items).toHaveLength(1);
      });

      test('P7 has keys per channel, whatever they hold', async () => {
        const keys = ['x', 'X', 'e', 'o', 't', 'x:1', 'é🎈', ' ', '*', '__proto__'];
        for (const channel of ['c', 'd']) {
          const { results } = await a.session.append(
            channel,
            KEEP,
            'k1',
            keys.map((key) => item(key, { key })),
          );
          expect(results.map(({ repeated }) => repeated)).toEqual(keys.map(() => false));
        }
        const { results } = await a.session.append(
          'c',
          KEEP,
          'k2',
          keys.map((key) => item(key, { key })),
        );
        expect(results.map(({ position, repeated }) => [offsetOf(position), repeated])).toEqual(
          keys.map((_, i) => [i + 1, true]),
        );
      });

      test('P7 knows a key whose publication is no longer stored', async () => {
        const one = { ...KEEP, size: 0 };
        const { results } = await a.session.append('c', one, 'k1', [item(1, { key: 'x' })]);
        await a.session.append('c', one, 'k2', items(5));
        const again = await a.session.append('c', one, 'k3', [item(1, { key: 'x' })]);
        expect(again.results).toEqual([{ position: results[0]?.position, repeated: true }]);
      });

      test('P7, P14 knows the newest 1,000 keys of a channel, and not many more', async () => {
        const count = 1_001 + capabilities.keySlack;
        const keyed = Array.from({ length: count }, (_, i) => item(i, { key: `key ${i}` }));
        for (let i = 0; i < count; i += 100) await a.session.append('c', KEEP, 'k1', keyed.slice(i, i + 100));
        const kept = await a.session.append('c', KEEP, 'k2', keyed.slice(-1_000));
        expect(kept.results.every(({ repeated }) => repeated)).toBe(true);
        const oldest = await a.session.append('c', KEEP, 'k3', keyed.slice(0, 1));
        expect(oldest.results[0]?.repeated).toBe(false);
      });

      withManualTime('P7 knows a key for 5 minutes from its first use', async () => {
        const append = async (): Promise<boolean | undefined> =>
          (await a.session.append('c', KEEP, 'k1', [item(1, { key: 'x' })])).results[0]?.repeated;
        expect(await append()).toBe(false);
        await harness.pass(299_999);
        expect(await append()).toBe(true);
        await harness.pass(1);
        expect(await append()).toBe(false);
        await harness.pass(299_999);
        await a.session.sweep();
        expect(await append()).toBe(true);
      });

      withManualTime('P7 forgets a key after 5 minutes, though younger ones are known', async () => {
        const use = async (key: string): Promise<boolean | undefined> =>
          (await a.session.append('c', KEEP, 'k1', [item(1, { key })])).results[0]?.repeated;
        await use('old');
        await harness.pass(200_000);
        await use('young');
        await harness.pass(100_000);
        expect(await use('old')).toBe(false);
        expect(await use('young')).toBe(true);
      });
    });

    describe('read', () => {
      test('D1.2 reads the top of an absent channel, which it creates', async () => {
        const created = await a.session.read('c', null, 10);
        expect(created).toEqual({
          status: 'ok',
          top: formatPosition(epochOf(created.top), 0, '0'),
          items: [],
          more: false,
        });
        expect(await b.session.read('c', null, 10)).toEqual(created);
        const { epoch, prev } = await b.session.append('c', KEEP, 'k1', [item(1)]);
        expect([epoch, prev]).toEqual([epochOf(created.top), { offset: 0, tag: '0' }]);
      });

      test('D1.2 reads the top alone without a position', async () => {
        const positions = await appendEach('c', 3);
        expect(await b.session.read('c', null, 10)).toEqual({
          status: 'ok',
          top: positions[2],
          items: [],
          more: false,
        });
      });

      test('D1.2 reads what follows a position, with what each publication holds', async () => {
        const { results } = await a.session.append('c', KEEP, 'k1', [item(1)]);
        await a.session.append('c', KEEP, 'k2', [
          item(2, { exclude: 'client' }),
          item(3, { event: 'other', key: 'x' }),
        ]);
        expect(await b.session.read('c', results[0]!.position, 10)).toEqual({
          status: 'ok',
          top: await topOf('c'),
          items: [
            { offset: 2, tag: 'k2', event: 'e', data: '2', exclude: 'client' },
            { offset: 3, tag: 'k2', event: 'other', data: '3' },
          ],
          more: false,
        });
      });

      test('D1.2 reads in pages, and tells whether more is stored', async () => {
        const [first] = await appendEach('c', 6);
        const seen: number[] = [];
        for (let position = first!, more = true; more;) {
          const page = await b.session.read('c', position, 2);
          expect(page.items.length).toBeLessThanOrEqual(2);
          for (const { offset, tag } of page.items) {
            seen.push(offset);
            position = formatPosition(epochOf(page.top), offset, tag);
          }
          more = page.more;
        }
        expect(seen).toEqual([2, 3, 4, 5, 6]);
        expect(await b.session.read('c', first!, 5)).toMatchObject({ more: false });
        expect(await b.session.read('c', first!, 4)).toMatchObject({ more: true });
      });

      test('D1.2 reads top and items in one step, while others append', async () => {
        const [first] = await appendEach('c', 1);
        const appends = Promise.all(items(40).map((one, i) => b.session.append('c', KEEP, `b${i}`, [one])));
        for (let i = 0; i < 20; i++) {
          const { top, items: read, more } = await a.session.read('c', first!, 100);
          const last = read.at(-1) ?? parsePosition(first)!;
          expect(more).toBe(false);
          expect(formatPosition(epochOf(top), last.offset, last.tag)).toBe(top);
        }
        await appends;
      });

      // Offsets 1–6 were appended, with the tags t1–t6; size 3 keeps 3–6.
      test.each<[string, number, string, 'ok' | 'trimmed' | 'diverged', number]>([
        ['the top', 6, 't6', 'ok', 0],
        ['a stored publication', 5, 't5', 'ok', 1],
        ['the oldest stored publication', 3, 't3', 'ok', 3],
        ['a publication before the oldest stored', 2, 't2', 'trimmed', 0],
        ['an unstored offset with any tag', 2, 'other', 'trimmed', 0],
        ['offset 0 while publication 1 is not stored', 0, '0', 'trimmed', 0],
        ['the offset of the top with another tag', 6, 'other', 'diverged', 0],
        ['a stored offset with another tag', 4, 't5', 'diverged', 0],
        ['an offset above the top', 7, 't6', 'diverged', 0],
        ['an offset far above the top', 9_007_199_254_740_991, 't6', 'diverged', 0],
      ])('D1.2, valid(p): %s (%d-%s) is %s', async (_, offset, tag, status, following) => {
        const positions = await appendEach('c', 6, { ...KEEP, size: 3 });
        const read = await b.session.read('c', formatPosition(epochOf(positions[0]), offset, tag), 100);
        expect(read).toMatchObject({ status, top: positions[5], more: false });
        expect(read.items).toHaveLength(following);
      });

      test('D1.2, valid(p): offset 0 is ok while publication 1 is stored or the top is 0', async () => {
        const { top } = await a.session.read('c', null, 10);
        expect(await a.session.read('c', top, 10)).toEqual({ status: 'ok', top, items: [], more: false });
        await appendEach('c', 2);
        const read = await a.session.read('c', top, 10);
        expect(read).toMatchObject({ status: 'ok', items: [{ offset: 1 }, { offset: 2 }] });
      });

      test('D1.2, valid(p): any offset above 0 of an empty log is diverged', async () => {
        const { top } = await a.session.read('c', null, 10);
        expect((await a.session.read('c', formatPosition(epochOf(top), 1, 'k1'), 10)).status).toBe('diverged');
      });

      test('D1.2, valid(p): another epoch is epoch, whatever the offset', async () => {
        const positions = await appendEach('c', 2);
        for (const [offset, tag] of [
          [0, '0'],
          [1, 't1'],
          [2, 't2'],
          [9, 't9'],
        ] as const) {
          const read = await a.session.read('c', formatPosition('other1', offset, tag), 10);
          expect(read).toEqual({ status: 'epoch', top: positions[1], items: [], more: false });
        }
        const absent = await a.session.read('d', positions[1]!, 10);
        expect(absent.status).toBe('epoch');
        expect(absent.top).toBe(await topOf('d'));
      });

      test('D1.2, valid(p): what is no position is epoch', async () => {
        const positions = await appendEach('c', 1);
        const epoch = epochOf(positions[0]);
        for (const text of [
          '',
          '0',
          `${epoch}-1`,
          `${epoch}-01-t1`,
          `${epoch}--1-t1`,
          `${epoch}-1-T!`,
          `${epoch}-1e9-t1`,
        ]) {
          expect(await a.session.read('c', text, 10)).toMatchObject({ status: 'epoch', items: [], top: positions[0] });
        }
      });

      test('D1.2 reads the newest publications, oldest first, with the top', async () => {
        const positions = await appendEach('c', 5);
        const newest = await b.session.newest('c', 2);
        expect(newest.top).toBe(positions[4]);
        expect(newest.items).toEqual([
          { offset: 4, tag: 't4', event: 'e', data: '4' },
          { offset: 5, tag: 't5', event: 'e', data: '5' },
        ]);
        expect((await b.session.newest('c', 100)).items).toHaveLength(5);
        const absent = await b.session.newest('d', 100);
        expect(absent).toEqual({ top: await topOf('d'), items: [] });
      });

      test('D1.3 answers the top of each channel in order, and creates absent ones', async () => {
        const [c] = await appendEach('c', 1);
        const tops = await b.session.tops(['d', 'c', 'f', 'd']);
        expect(tops).toEqual([await topOf('d'), c, await topOf('f'), tops[0]]);
        expect(offsetOf(tops[0])).toBe(0);
        expect(await b.session.tops([])).toEqual([]);
      });

      test('D1.3 answers the tops of 500 channels', async () => {
        const channels = items(500).map((_, i) => `c${i}`);
        const tops = await a.session.tops(channels);
        expect(await b.session.tops(channels)).toEqual(tops);
        expect(new Set(tops.map(epochOf)).size).toBe(500);
      });
    });

    describe('times to live', () => {
      const short = (unitMs: number): Retention => ({ size: 100, ttlMs: 4 * unitMs, metaTtlMs: 12 * unitMs });

      timed('D1.1 lets the history go ttlMs after the last publication; epoch and top stay', async (unitMs, pass) => {
        const [first] = await appendEach('c', 1, short(unitMs));
        await pass(3);
        const { results } = await a.session.append('c', short(unitMs), 'k2', [item(2)]);
        await pass(3);
        expect(await a.session.read('c', first!, 10)).toMatchObject({ status: 'ok', items: [{ offset: 2 }] });
        await pass(2);
        const top = results[0]!.position;
        expect(await a.session.read('c', first!, 10)).toEqual({ status: 'trimmed', top, items: [], more: false });
        expect(await a.session.read('c', top, 10)).toEqual({ status: 'ok', top, items: [], more: false });
        expect(await a.session.newest('c', 10)).toEqual({ top, items: [] });
        const { prev } = await a.session.append('c', short(unitMs), 'k3', [item(3)]);
        expect(prev).toEqual({ offset: 2, tag: 'k2' });
      });

      timed('D1.1 does not count a repeated key as a publication', async (unitMs, pass) => {
        await a.session.append('c', short(unitMs), 'k1', [item(1, { key: 'x' })]);
        await pass(3);
        await a.session.append('c', short(unitMs), 'k2', [item(1, { key: 'x' })]);
        await pass(2);
        expect((await a.session.newest('c', 10)).items).toEqual([]);
      });

      timed('D1.1, P6 begins a new epoch metaTtlMs after the last use; keys are forgotten', async (unitMs, pass) => {
        const { epoch, results } = await a.session.append('c', short(unitMs), 'k1', [item(1, { key: 'x' })]);
        await pass(13);
        const again = await a.session.append('c', short(unitMs), 'k2', [item(1, { key: 'x' })]);
        expect(again.epoch).not.toBe(epoch);
        expect(again.prev).toEqual({ offset: 0, tag: '0' });
        expect(again.results[0]?.repeated).toBe(false);
        expect((await a.session.read('c', results[0]!.position, 10)).status).toBe('epoch');
      });

      timed('D1.1 keeps epoch and offset for twice ttlMs, even if metaTtlMs is less', async (unitMs, pass) => {
        const [first] = await appendEach('c', 1, { size: 100, ttlMs: 4 * unitMs, metaTtlMs: unitMs });
        await pass(6);
        expect(await topOf('c')).toBe(first);
      });

      const uses: Record<string, (channel: string, retention: Retention) => Promise<unknown>> = {
        append: (channel, retention) => a.session.append(channel, retention, 'k2', [item(2)]),
        'read without a position': (channel) => b.session.read(channel, null, 10),
        tops: (channel) => b.session.tops([channel]),
      };
      for (const [name, use] of Object.entries(uses)) {
        timed(`D1.1, D1.3 count ${name} as a use`, async (unitMs, pass) => {
          const [first] = await appendEach('c', 1, short(unitMs));
          await pass(8);
          await use('c', short(unitMs));
          await pass(8);
          expect(epochOf(await topOf('c'))).toBe(epochOf(first));
        });
      }

      withManualTime('D1.1 frees nothing early in a sweep', async () => {
        const [first] = await appendEach('c', 2);
        for (let hour = 0; hour < 23; hour++) {
          await harness.pass(HOUR_MS - 1);
          await a.session.sweep();
          expect((await a.session.read('c', first!, 10)).status).toBe(hour === 0 ? 'ok' : 'trimmed');
        }
        await harness.pass(24 * HOUR_MS - 1);
        await a.session.sweep();
        expect((await a.session.read('c', first!, 10)).status).toBe('trimmed');
        await harness.pass(24 * HOUR_MS);
        await a.session.sweep();
        expect((await a.session.read('c', first!, 10)).status).toBe('epoch');
      });
    });

    describe('a broker that lost data', () => {
      withSurgery('P6 answers epoch to every position after a wipe, and knows no key', async () => {
        await a.session.append('c', KEEP, 'k1', [item(1, { key: 'x' })]);
        const before = await topOf('c');
        await harness.surgery!.wipe();
        const read = await b.session.read('c', before, 10);
        expect(read).toMatchObject({ status: 'epoch', items: [] });
        expect(offsetOf(read.top)).toBe(0);
        const { results } = await b.session.append('c', KEEP, 'k2', [item(1, { key: 'x' })]);
        expect(results[0]).toEqual({ position: formatPosition(epochOf(read.top), 1, 'k2'), repeated: false });
      });

      withSurgery('P5 serves positions of the prefix after a failover, and tells the others', async () => {
        const positions = await appendEach('c', 5);
        await harness.surgery!.diverge('c', 3);
        const status = async (position: Position): Promise<string> => (await b.session.read('c', position, 10)).status;
        expect(await Promise.all(positions.map(status))).toEqual(['ok', 'ok', 'ok', 'diverged', 'diverged']);
        // The same offsets are given again, and only the tag tells.
        const { prev } = await a.session.append('c', KEEP, 'other', items(2));
        expect(prev).toEqual({ offset: 3, tag: 't3' });
        expect(await Promise.all(positions.map(status))).toEqual(['ok', 'ok', 'ok', 'diverged', 'diverged']);
        const { items: read } = await b.session.read('c', positions[2]!, 10);
        expect(read.map(({ offset, tag }) => `${offset}-${tag}`)).toEqual(['4-other', '5-other']);
      });

      withSurgery('P5 forgets the keys of the lost publications, and only those', async () => {
        await a.session.append('c', KEEP, 'k1', [item(1, { key: 'x' }), item(2, { key: 'y' })]);
        await harness.surgery!.diverge('c', 1);
        const { results } = await a.session.append('c', KEEP, 'k2', [item(1, { key: 'x' }), item(2, { key: 'y' })]);
        expect(results.map(({ repeated }) => repeated)).toEqual([true, false]);
      });

      withSurgery('P5 serves offset 0 after a failover to the empty log', async () => {
        const { top } = await a.session.read('c', null, 10);
        const [first] = await appendEach('c', 1);
        await harness.surgery!.diverge('c', 0);
        expect(await a.session.read('c', top, 10)).toMatchObject({ status: 'ok', top });
        expect(await a.session.read('c', first!, 10)).toMatchObject({ status: 'diverged', top });
      });

      withSurgery('answers trimmed when only the history is gone', async () => {
        const positions = await appendEach('c', 3);
        await harness.surgery!.trim('c');
        expect(await a.session.read('c', positions[1]!, 10)).toMatchObject({ status: 'trimmed', top: positions[2] });
        expect(await a.session.read('c', positions[2]!, 10)).toMatchObject({ status: 'ok', items: [] });
      });
    });

    describe('subscriptions', () => {
      test('D2.1 announces all that is appended after subscribe was acknowledged', async () => {
        for (let i = 1; i <= 20; i++) {
          await b.session.subscribe(`c${i}`);
          await a.session.append(`c${i}`, KEEP, 'k1', [item(i)]);
        }
        await b.until(() => b.envelopes.length === 20, 'an envelope of each channel');
      });

      test('announces only subscribed channels', async () => {
        await Promise.all([a.session.subscribe('c'), b.session.subscribe('d')]);
        await Promise.all(['c', 'd', 'f'].map((channel) => a.session.append(channel, KEEP, 'k1', [item(1)])));
        await fence('c', a);
        await fence('d', b);
        expect(new Set(a.envelopes.map(({ channel }) => channel))).toEqual(new Set(['c']));
        expect(new Set(b.envelopes.map(({ channel }) => channel))).toEqual(new Set(['d']));
      });

      test('stops announcing after unsubscribe, and resumes after another subscribe', async () => {
        await Promise.all([a.session.subscribe('c'), b.session.subscribe('c')]);
        await fence('c', a, b);
        await b.session.unsubscribe('c');
        await a.session.append('c', KEEP, 'unseen', [item(1)]);
        await fence('c', a);
        await b.session.subscribe('c');
        await fence('c', a, b);
        expect(b.envelopesOf('c').map(({ first }) => first)).toEqual([1, 4]);
        expect(a.envelopesOf('c').map(({ first }) => first)).toEqual([1, 2, 3, 4]);
      });

      test('takes unsubscribe of a channel that is not subscribed', async () => {
        await expect(b.session.unsubscribe('never')).resolves.toBeUndefined();
      });

      test('shows each node the chain without a break while both append and read', async () => {
        await Promise.all([a.session.subscribe('c'), b.session.subscribe('c')]);
        await Promise.all(
          items(30).flatMap((one, i) => [
            a.session.append('c', KEEP, `a${i}`, [one]),
            b.session.append('c', KEEP, `b${i}`, [one, one]),
            b.session.read('c', null, 10),
          ]),
        );
        for (const node of [a, b]) {
          await node.until(() => node.envelopes.length === 60, '60 envelopes');
          let top = { offset: 0, tag: '0' };
          for (const { prev, tag, items: appended } of node.envelopesOf('c')) {
            expect(prev).toEqual(top);
            top = { offset: top.offset + appended.length, tag };
          }
        }
      });

      test('D1.3 never reorders announcements that a listener causes', async () => {
        await Promise.all([a.session.subscribe('c'), b.session.subscribe('c')]);
        a.onTold = () => {
          if (a.envelopes.length < 10) void b.session.append('c', KEEP, 'more', [item(a.envelopes.length)]);
        };
        await a.session.append('c', KEEP, 'k1', [item(0)]);
        for (const node of [a, b]) {
          await node.until(() => node.envelopes.length === 10, '10 envelopes');
          expect(node.envelopesOf('c').map(({ first }) => first)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        }
      });
    });

    describe('presence', () => {
      const join = (node: RecordingNode, connection: string, member: string, info: unknown = null): Promise<void> =>
        node.session.join('c', { connection, member, info });
      const members = async (node = a): Promise<string[]> => {
        const { users } = await node.session.presence('c');
        return users.map(({ id, connections }) => `${id}:${connections}`).sort();
      };
      const rev = async (): Promise<number> => (await a.session.presence('c')).rev;
      /** Resolves once a node was told of the member that this adds and removes; its own changes are not counted. */
      async function presenceFence(...told: RecordingNode[]): Promise<void> {
        await join(a, 'fence', 'fence');
        await a.session.leave('c', 'fence', 0);
        const last = await rev();
        for (const node of told) {
          await node.until(() => node.changesOf('c').some((change) => change.rev === last), `revision ${last}`);
        }
      }
      const changesOf = (node: RecordingNode): { joined: string[]; left: string[] }[] =>
        node
          .changesOf('c')
          .map(({ joined, left }) => ({ joined: joined.map(({ id }) => id), left: [...left] }))
          .filter(({ joined, left }) => ![...joined, ...left].includes('fence'));

      test('W7 answers no members for a channel that nobody is in', async () => {
        expect(await a.session.presence('c')).toMatchObject({ count: 0, users: [] });
      });

      test('W7 shows a member to every node, and announces the join to the subscribed ones', async () => {
        await Promise.all([a.session.subscribe('c'), b.session.subscribe('c')]);
        await join(a, 'c1', 'ann', { name: 'Ann' });
        const answer = await b.session.presence('c');
        expect(answer).toEqual({
          rev: answer.rev,
          count: 1,
          users: [{ id: 'ann', info: { name: 'Ann' }, connections: 1 }],
        });
        for (const node of [a, b]) {
          await node.until(() => node.changes.length > 0, 'the join');
          expect(node.changesOf('c')).toEqual([
            { rev: answer.rev, count: 1, joined: [{ id: 'ann', info: { name: 'Ann' } }], left: [] },
          ]);
        }
      });

      test('W7 announces changes only to nodes that are subscribed to the channel', async () => {
        await Promise.all([a.session.subscribe('c'), b.session.subscribe('d')]);
        await join(a, 'c1', 'ann');
        await a.session.join('d', { connection: 'c1', member: 'ann', info: null });
        await b.until(() => b.changes.length > 0, 'the join of d');
        await presenceFence(a);
        expect(b.changes.map(({ channel }) => channel)).toEqual(['d']);
      });

      test('W7 merges the devices of a member over both nodes', async () => {
        await a.session.subscribe('c');
        await join(a, 'c1', 'ann');
        await join(b, 'c2', 'ann');
        await join(b, 'c3', 'bob');
        expect(await members()).toEqual(['ann:2', 'bob:1']);
        await a.session.leave('c', 'c1', 0);
        expect(await members(b)).toEqual(['ann:1', 'bob:1']);
        await b.session.leave('c', 'c2', 0);
        expect(await members()).toEqual(['bob:1']);
        await presenceFence(a);
        expect(changesOf(a)).toEqual([
          { joined: ['ann'], left: [] },
          { joined: ['bob'], left: [] },
          { joined: [], left: ['ann'] },
        ]);
      });

      test('W7, P12 raises the revision by one per change, and tells the count after it', async () => {
        await b.session.subscribe('c');
        await join(a, 'c0', 'stays');
        const before = await rev();
        await join(a, 'c1', 'ann');
        await join(b, 'c2', 'bob');
        await a.session.leave('c', 'c1', 0);
        expect(await rev()).toBe(before + 3);
        await b.until(() => b.changes.length === 4, 'four changes');
        expect(b.changesOf('c').map((change) => [change.rev - before, change.count])).toEqual([
          [0, 1],
          [1, 2],
          [2, 3],
          [3, 2],
        ]);
      });

      test('W7, P12 changes no revision for a repeated join, another device, and a repeated or unknown leave', async () => {
        await join(a, 'c0', 'stays');
        await join(a, 'c1', 'ann', { n: 1 });
        const before = await rev();
        await join(a, 'c1', 'ann', { n: 1 });
        await join(b, 'c2', 'ann', { n: 1 });
        await a.session.leave('c', 'c1', 0);
        await a.session.leave('c', 'c1', 0);
        await b.session.leave('c', 'unknown', 0);
        await b.session.leave('nowhere', 'c1', 1_000);
        expect(await rev()).toBe(before);
        expect(await members()).toEqual(['ann:1', 'stays:1']);
      });

      test('W7 announces other information of a member as a join', async () => {
        await b.session.subscribe('c');
        await join(a, 'c1', 'ann', { n: 1 });
        await join(a, 'c2', 'ann', { n: 2 });
        const answer = await b.session.presence('c');
        expect(answer.users).toEqual([{ id: 'ann', info: { n: 2 }, connections: 2 }]);
        await b.until(() => b.changes.length === 2, 'two changes');
        expect(b.changesOf('c')[1]).toEqual({
          rev: answer.rev,
          count: 1,
          joined: [{ id: 'ann', info: { n: 2 } }],
          left: [],
        });
      });

      test('W7 keeps the information as it was at the join', async () => {
        const info = { tags: ['é', { deep: [1, null] }] };
        await join(a, 'c1', 'ann', info);
        info.tags.push('later');
        await join(a, 'c2', 'bob', undefined);
        const { users } = await b.session.presence('c');
        expect(users.find(({ id }) => id === 'ann')?.info).toEqual({ tags: ['é', { deep: [1, null] }] });
        expect(users.find(({ id }) => id === 'bob')?.info).toBeNull();
      });

      test('W7 moves a connection that joins as another member, in one change', async () => {
        await b.session.subscribe('c');
        await join(a, 'c1', 'guest');
        const before = await rev();
        await join(a, 'c1', 'ann');
        expect(await members()).toEqual(['ann:1']);
        expect(await rev()).toBe(before + 1);
        await b.until(() => b.changes.length === 2, 'two changes');
        expect(changesOf(b)[1]).toEqual({ joined: ['ann'], left: ['guest'] });
      });

      timed('W7 keeps a member through the grace period, with 0 connections', async (unitMs, pass) => {
        await b.session.subscribe('c');
        await join(a, 'c1', 'ann');
        const before = await rev();
        await a.session.leave('c', 'c1', 4 * unitMs);
        await pass(2);
        await b.session.sweep();
        expect(await members(b)).toEqual(['ann:0']);
        expect(await rev()).toBe(before);
        await pass(3);
        await b.session.sweep();
        expect(await members(a)).toEqual([]);
        await presenceFence(b);
        expect(changesOf(b)).toEqual([
          { joined: ['ann'], left: [] },
          { joined: [], left: ['ann'] },
        ]);
      });

      for (const [name, connection] of [
        ['the same connection', 'c1'],
        ['another connection', 'c2'],
      ] as const) {
        timed(`W7 shows no change when a member comes back within the grace with ${name}`, async (unitMs, pass) => {
          await b.session.subscribe('c');
          await join(a, 'c1', 'ann');
          await a.session.leave('c', 'c1', 4 * unitMs);
          await join(b, connection, 'ann');
          await pass(5);
          await a.session.sweep();
          expect(await members()).toEqual(['ann:1']);
          await presenceFence(b);
          expect(changesOf(b)).toEqual([{ joined: ['ann'], left: [] }]);
        });
      }

      timed('W7 keeps the earlier of two departures', async (unitMs, pass) => {
        await join(a, 'c1', 'ann');
        await join(a, 'c2', 'bob');
        await a.session.leave('c', 'c1', 4 * unitMs);
        await b.session.leave('c', 'c1', 40 * unitMs);
        await b.session.leave('c', 'c2', 40 * unitMs);
        await b.session.leave('c', 'c2', 0);
        expect(await members()).toEqual(['ann:0']);
        await pass(5);
        await a.session.sweep();
        expect(await members()).toEqual([]);
      });

      timed('W7 applies the due departures of a channel as one change', async (unitMs, pass) => {
        await b.session.subscribe('c');
        await join(a, 'c0', 'stays');
        for (const n of [1, 2, 3]) await join(a, `c${n}`, `user ${n}`);
        const before = await rev();
        for (const n of [1, 2, 3]) await a.session.leave('c', `c${n}`, unitMs);
        await pass(2);
        await b.session.sweep();
        expect(await rev()).toBe(before + 1);
        await b.until(() => b.changes.length === 5, 'five changes');
        const last = b.changesOf('c')[4]!;
        expect([...last.left].sort()).toEqual(['user 1', 'user 2', 'user 3']);
        expect(last).toMatchObject({ rev: before + 1, count: 1, joined: [] });
      });

      test('W7 removes the members of a node that closes, in one change, and leaves the others', async () => {
        const third = await open('third');
        await a.session.subscribe('c');
        for (const n of [1, 2]) await join(third, `c${n}`, `user ${n}`);
        await join(a, 'c3', 'user 2');
        await join(a, 'c4', 'user 4');
        const before = await rev();
        await third.session.close();
        expect(await members()).toEqual(['user 2:1', 'user 4:1']);
        expect(await rev()).toBe(before + 1);
        await a.until(() => a.changesOf('c').at(-1)?.rev === before + 1, 'the change');
        expect(changesOf(a).at(-1)).toEqual({ joined: [], left: ['user 1'] });
      });

      test('W7, P12 leaves nobody behind where a node closes while its members join and leave', async () => {
        const third = await open('third');
        const steps = [
          join(third, 'c1', 'ann'),
          join(third, 'c2', 'bob'),
          third.session.leave('c', 'c1', 0),
          join(third, 'c3', 'eve'),
        ];
        await third.session.close();
        await Promise.all(steps);
        expect(await members()).toEqual([]);
      });

      timed('W7 keeps a departure at the broker when the node that asked for it closes', async (unitMs, pass) => {
        const third = await open('third');
        await join(third, 'c1', 'ann');
        await third.session.leave('c', 'c1', 4 * unitMs);
        await third.session.close();
        expect(await members()).toEqual(['ann:0']);
        await pass(5);
        await b.session.sweep();
        expect(await members()).toEqual([]);
      });

      test('W7 keeps a connection that moved on from the node that closes', async () => {
        const third = await open('third');
        await join(third, 'c1', 'ann');
        await join(b, 'c1', 'ann');
        await third.session.close();
        expect(await members()).toEqual(['ann:1']);
      });

      test('P12 never gives one revision to two member sets, though a channel was empty', async () => {
        const seen = new Map<number, string>();
        const look = async (): Promise<void> => {
          const answer = await a.session.presence('c');
          const set = answer.users.map(({ id }) => id).join();
          expect(seen.get(answer.rev) ?? set).toBe(set);
          seen.set(answer.rev, set);
        };
        for (const member of ['ann', 'bob', 'ann', 'eve']) {
          await look();
          await join(a, 'c1', member);
          await look();
          await a.session.leave('c', 'c1', 0);
          await look();
          await a.session.sweep();
        }
        expect(seen.size).toBeGreaterThanOrEqual(8);
      });

      test('P12 agrees with the changes that were announced, under concurrent joins and leaves', async () => {
        await b.session.subscribe('c');
        await join(a, 'c0', 'stays');
        const start = await rev();
        await Promise.all(
          items(60).map((_, i) => {
            const node = i % 2 ? a : b;
            const connection = `c${i % 7}`;
            return i % 3 ? join(node, connection, `user ${i % 4}`) : node.session.leave('c', connection, 0);
          }),
        );
        const answer = await a.session.presence('c');
        await b.until(() => b.changesOf('c').at(-1)?.rev === answer.rev, `revision ${answer.rev}`);
        const view = new Set(['stays']);
        let last = start;
        for (const change of b.changesOf('c').filter((one) => one.rev > start)) {
          expect(change.rev).toBe(last + 1);
          last = change.rev;
          for (const { id } of change.joined) view.add(id);
          for (const id of change.left) view.delete(id);
          expect(change.count).toBe(view.size);
        }
        expect([...view].sort()).toEqual(answer.users.map(({ id }) => id).sort());
      });
    });

    describe('registry', () => {
      const info = (id: string, node: string, extra: Partial<ConnectionInfo> = {}): ConnectionInfo => {
        return {
          id,
          node,
          transport: 'websocket',
          ip: '127.0.0.1',
          endpoint: '0:/realtime',
          params: {},
          openedAt: 1_700_000_000_000,
          channels: [],
          ...extra,
        };
      };
      const ids = async (node: RecordingNode, filter: { userId?: string; channel?: string } = {}): Promise<string[]> =>
        (await node.session.connections(filter)).map(({ id }) => id).sort();

      test('shows the connections of all nodes to each node', async () => {
        const full = info('c1', 'a', { client: 'x', userId: 'ann', channels: ['c', 'd'] });
        await a.session.register({ id: 'c1', info: () => full });
        await b.session.register({ id: 'c2', info: () => info('c2', 'b') });
        for (const node of [a, b]) {
          const found = await node.session.connections({});
          expect(found.sort((x, y) => x.id.localeCompare(y.id))).toEqual([full, info('c2', 'b')]);
        }
      });

      test('counts the connections of other nodes by address and by user, until they end', async () => {
        const subjects = ['a:10.0.0.1', 'u:ann', 'a:10.0.0.2', 'u:eve', 'a:2001:db8:0:1::/64'];
        const of = (
          id: string,
          node: string,
          ip: string,
          userId?: string,
        ): RegisteredConnection & { over: boolean } => {
          const told = { ...info(id, node), ip, ...(userId === undefined ? {} : { userId }) };
          return { id, over: false, info: () => told };
        };
        const first = of('c1', 'a', '10.0.0.1', 'ann');
        await a.session.register(first);
        await a.session.register(of('c2', 'a', '10.0.0.1'));
        await a.session.register(of('c3', 'a', '10.0.0.2', 'ann'));
        await a.session.register(of('c4', 'a', '2001:db8:0:1::7'));
        await b.session.register(of('c5', 'b', '10.0.0.2', 'ann'));
        expect(await b.session.countElsewhere(subjects)).toEqual([2, 2, 1, 0, 1]);
        expect(await a.session.countElsewhere(subjects)).toEqual([0, 1, 1, 0, 0]);
        expect(await a.session.countElsewhere([])).toEqual([]);
        first.over = true;
        await a.session.update(first);
        expect(await b.session.countElsewhere(subjects)).toEqual([1, 1, 1, 0, 1]);
        await a.session.unregister('c1');
        await a.session.unregister('c2');
        expect(await b.session.countElsewhere(subjects)).toEqual([0, 1, 1, 0, 1]);
        await a.session.close();
        expect(await b.session.countElsewhere(subjects)).toEqual([0, 0, 0, 0, 0]);
      });

      test('filters by user, by channel, and by both', async () => {
        const known: [string, string | undefined, string[]][] = [
          ['c1', 'ann', ['c']],
          ['c2', 'ann', ['d']],
          ['c3', 'bob', ['c', 'd']],
          ['c4', undefined, []],
        ];
        for (const [id, userId, channels] of known) {
          const told = info(id, 'a', { channels, ...(userId === undefined ? {} : { userId }) });
          await a.session.register({ id, info: () => told });
        }
        expect(await ids(b)).toEqual(['c1', 'c2', 'c3', 'c4']);
        expect(await ids(b, { userId: 'ann' })).toEqual(['c1', 'c2']);
        expect(await ids(b, { channel: 'c' })).toEqual(['c1', 'c3']);
        expect(await ids(b, { userId: 'ann', channel: 'd' })).toEqual(['c2']);
        expect(await ids(b, { userId: 'eve' })).toEqual([]);
      });

      test('shows the channels of a connection after update', async () => {
        const channels: string[] = [];
        const connection = { id: 'c1', info: () => info('c1', 'a', { channels: [...channels] }) };
        await a.session.register(connection);
        expect(await ids(b, { channel: 'c' })).toEqual([]);
        channels.push('c');
        await a.session.update(connection);
        expect(await ids(b, { channel: 'c' })).toEqual(['c1']);
        channels.pop();
        await a.session.update(connection);
        expect(await ids(b, { channel: 'c' })).toEqual([]);
      });

      test('forgets a connection after unregister, once and for all', async () => {
        const connection = { id: 'c1', info: () => info('c1', 'a') };
        await a.session.register(connection);
        await a.session.unregister('c1');
        await a.session.unregister('c1');
        await a.session.update(connection);
        expect(await ids(b)).toEqual([]);
      });

      test('forgets the connections of a node that closes', async () => {
        const third = await open('third');
        await third.session.register({ id: 'c1', info: () => info('c1', 'third') });
        await a.session.register({ id: 'c2', info: () => info('c2', 'a') });
        await third.session.close();
        expect(await ids(b)).toEqual(['c2']);
      });
    });

    describe('revocations', () => {
      const LATER = Date.now() + 100 * HOUR_MS;
      const sorted = (revocations: readonly Revocation[]): Revocation[] =>
        revocations.toSorted((x, y) => revocationKey(x).localeCompare(revocationKey(y)));
      const stored = async (node: RecordingNode): Promise<Revocation[]> => sorted(await node.session.revocations());

      test('W12 gives every node what any has written, text of any kind', async () => {
        const revocations: Revocation[] = [
          { token: 'k é🎈\n:', until: LATER },
          { token: 'u:ann', until: LATER + 1 },
          { user: 'ann', until: LATER, before: 1_700_000_000_001 },
          { user: 'u:ann', until: 8.64e15, before: 0 },
        ];
        await a.session.revoke(revocations.slice(0, 2));
        await b.session.revoke(revocations.slice(2));
        for (const node of [a, b]) expect(await stored(node)).toEqual(sorted(revocations));
      });

      test('W12 keeps the later times of one token or user, in whatever order they come', async () => {
        await a.session.revoke([{ user: 'ann', until: LATER, before: 20 }]);
        await b.session.revoke([{ user: 'ann', until: LATER + 5, before: 10 }]);
        await a.session.revoke([
          { token: 'k', until: LATER + 9 },
          { token: 'k', until: LATER },
        ]);
        const expected = [
          { token: 'k', until: LATER + 9 },
          { user: 'ann', until: LATER + 5, before: 20 },
        ];
        expect(await stored(b)).toEqual(expected);
        await b.session.revoke(expected);
        expect(await stored(a)).toEqual(expected);
      });

      timed('W12 forgets those whose time is over, and takes none that is', async (unitMs, pass) => {
        await a.session.revoke([
          { token: 'short', until: harness.now() + 20 * unitMs },
          { token: 'over', until: harness.now() - 1 },
          { user: 'ann', until: LATER, before: 1 },
        ]);
        expect((await stored(b)).map(revocationKey)).toEqual(['t:short', 'u:ann']);
        await pass(21);
        expect((await stored(b)).map(revocationKey)).toEqual(['u:ann']);
      });

      test('W12 gives many', async () => {
        const many = Array.from({ length: 1_200 }, (_, i) => ({ token: `token ${i}`, until: LATER + (i % 100) }));
        await a.session.revoke(many);
        expect(await stored(b)).toEqual(sorted(many));
      });
    });

    describe('what is taken once', () => {
      test('is there for one of any number of calls, whichever node they come from', async () => {
        const texts = Array.from({ length: 20 }, (_, i) => `text ${i} é🎈\n"${'x'.repeat(8_000)}`);
        await Promise.all(texts.map((text, i) => (i % 2 === 0 ? a : b).session.putOnce(`key:${i}`, text, HOUR_MS)));
        const taken = texts.map((_, i) => Promise.all([a, b, a, b].map((node) => node.session.takeOnce(`key:${i}`))));
        for (const [i, calls] of (await Promise.all(taken)).entries()) {
          expect(calls.filter((text) => text !== undefined)).toEqual([texts[i]]);
        }
      });

      timed('is there for its time alone', async (unitMs, pass) => {
        await a.session.putOnce('short', 'text', 3 * unitMs);
        await a.session.putOnce('long', 'text', HOUR_MS);
        await pass(4);
        await a.session.sweep();
        expect(await b.session.takeOnce('short')).toBeUndefined();
        expect(await b.session.takeOnce('long')).toBe('text');
        expect(await b.session.takeOnce('never')).toBeUndefined();
      });
    });

    describe('control', () => {
      test('joins hubs: each gets each message once, all in one order', async () => {
        const joined = [await openHub(), await openHub()];
        const peers = await Promise.all(joined.map((node) => node.connect('ada')));
        await Promise.all(
          Array.from({ length: 40 }, (_, n) => joined[n % 2]!.hub.control.emit({ user: 'ada' }, 'n', `${n} é🎈\n"`)),
        );
        for (const peer of peers) await peer.until(() => peer.told('n').length >= 40, '40 messages');
        const [order, other] = peers.map((peer) => peer.told('n'));
        expect(other).toEqual(order);
        expect(new Set(order).size).toBe(40);
        for (const sender of [0, 1]) {
          const sent = order!.map((text) => parseInt(text as string)).filter((n) => n % 2 === sender);
          expect(sent).toEqual(Array.from({ length: 20 }, (_, i) => 2 * i + sender));
        }
      });

      test('ends the connections of a user on every hub', async () => {
        const joined = [await openHub(), await openHub()];
        const [ada, device, bob] = await Promise.all([
          joined[0]!.connect('ada'),
          joined[1]!.connect('ada'),
          joined[1]!.connect('bob'),
        ]);
        await joined[0]!.hub.control.disconnect({ user: 'ada' });
        for (const peer of [ada, device]) await peer.until(() => peer.close !== undefined, 'the end');
        expect([ada.close, device.close, bob.close]).toEqual([[4403, 'forbidden'], [4403, 'forbidden'], undefined]);
      });
    });

    describe('close', () => {
      test('tells a closed session nothing more', async () => {
        const third = await open('third');
        await Promise.all([third.session.subscribe('c'), a.session.subscribe('c')]);
        await fence('c', a, third);
        await third.session.close();
        await fence('c', a);
        await a.session.join('c', { connection: 'c1', member: 'ann', info: null });
        await a.until(() => a.changes.length > 0, 'the join');
        expect(third.envelopes).toHaveLength(1);
        expect(third.changes).toEqual([]);
      });

      test('D8.1 rejects every call after close with broker_unavailable; close itself may be repeated', async () => {
        const third = await open('third');
        await third.session.close();
        await third.session.close();
        const { session } = third;
        const connection = { id: 'c1', info: () => info };
        const info: ConnectionInfo = {
          id: 'c1',
          node: 'third',
          transport: 'sse',
          ip: '::1',
          endpoint: '0:/realtime',
          params: {},
          openedAt: 0,
          channels: [],
        };
        const calls = [
          session.append('c', KEEP, 'k1', [item(1)]),
          session.read('c', null, 1),
          session.newest('c', 1),
          session.tops(['c']),
          session.subscribe('c'),
          session.unsubscribe('c'),
          session.join('c', { connection: 'c1', member: 'ann', info: null }),
          session.leave('c', 'c1', 0),
          session.presence('c'),
          session.register(connection),
          session.update(connection),
          session.unregister('c1'),
          session.connections({}),
          session.revoke([{ token: 'k', until: Date.now() + HOUR_MS }]),
          session.revocations(),
          session.putOnce('once', 'text', 1_000),
          session.takeOnce('once'),
          session.sweep(),
        ];
        for (const call of await Promise.allSettled(calls)) {
          expect(call).toMatchObject({ status: 'rejected', reason: { code: 'broker_unavailable' } });
        }
        expect(offsetOf(await topOf('c'))).toBe(0);
        expect(await a.session.connections({})).toEqual([]);
      });

      test('leaves the logs to the other nodes when one closes', async () => {
        const third = await open('third');
        const { results } = await third.session.append('c', KEEP, 'k1', [item(1)]);
        await third.session.close();
        expect(await topOf('c')).toBe(results[0]?.position);
      });
    });
  });
}
