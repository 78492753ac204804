import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import {
  MAX_INBOX_BYTES,
  MAX_INBOX_ENTRIES,
  type ConnectionRecord,
  type EndedRecord,
  type RecordStore,
  type SendAttempt,
} from '../../lib/hub/ports/records.js';
import { RecordingNode } from '../support/recording-node.js';
import type { BrokerHarness } from './broker.conformance.js';

const START = 'epochs-0-0';
const OVER = { code: 4403, reason: 'forbidden', reconnect: false };
const AWAY = { code: 4507, reason: 'heartbeat_timeout', reconnect: true };
const LONG_MS = 60_000;

/** A harness whose brokers also find out soon that a peer did not come back. */
export type RecordHarness = Pick<BrokerHarness, 'broker' | 'pass' | 'dispose'>;

/** The contract of a broker's records, as tests. Runs for every implementation. */
export function describeRecords(
  name: string,
  make: () => RecordHarness | Promise<RecordHarness>,
  { unitMs }: { unitMs: number },
): void {
  describe(`records: ${name}`, () => {
    let harness: RecordHarness;
    let a: RecordingNode;
    let b: RecordingNode;
    let one: RecordStore;
    let two: RecordStore;

    beforeEach(async () => {
      harness = await make();
      a = await RecordingNode.open(harness.broker(), 'a');
      b = await RecordingNode.open(harness.broker(), 'b');
      one = a.session.records;
      two = b.session.records;
    });

    afterEach(async () => {
      await Promise.all([a, b].map(({ session }) => session.close()));
      await harness.dispose();
    });

    let count = 0;

    /** Makes a record on node a. */
    async function create(parts: Partial<ConnectionRecord> = {}, forMs = LONG_MS): Promise<string> {
      const id = `connection-${++count}-${randomUUID().slice(0, 8)}`;
      const origin = {
        id,
        secretHash: 'hash',
        endpoint: '0:/',
        transport: 'long-polling',
        ip: '::1',
        params: { room: 'ä' },
        openedAt: 1,
        subjects: [`a:${id}`, 'u:ann'],
        ...parts.origin,
      };
      await one.create({ subscriptions: [], ...parts, origin }, forMs);
      return id;
    }

    const attemptOf = (seq: number, hash = 'h'): SendAttempt => ({ seq, hash, attempt: randomUUID() });

    /** Runs and commits a number, so that the next one may come. */
    async function run(id: string, seq: number, answers = '[]'): Promise<SendAttempt> {
      const attempt = attemptOf(seq);
      expect(await one.begin(id, attempt, LONG_MS)).toMatchObject({ verdict: 'run', record: { origin: { id } } });
      expect(await one.commit(id, attempt, answers)).toBe(true);
      return attempt;
    }

    /** Sweeps and claims until something was claimed. */
    async function claim(store = two, node = b, forMs = LONG_MS): Promise<EndedRecord[]> {
      for (let i = 0; i < 200; i++) {
        await node.session.sweep();
        const claimed = await store.claim(100, AWAY, forMs);
        if (claimed.length > 0) return claimed;
        await harness.pass(unitMs);
      }
      throw new Error('Nothing was claimed');
    }

    test('D5 keeps what a record is, over nodes', async () => {
      const user = { id: 'ann', claims: { role: 'x' }, expiresAt: 5, channels: ['c'] };
      const id = await create({ client: 'tab', user });
      await one.write(id, { data: '{"n":1}', askAt: 5 });
      expect(await two.read(id)).toEqual({
        origin: expect.objectContaining({ id, params: { room: 'ä' }, subjects: [`a:${id}`, 'u:ann'] }),
        subscriptions: [],
        client: 'tab',
        user,
        data: '{"n":1}',
        askAt: 5,
      });
      expect(await two.read('nobody')).toBeUndefined();
      expect(await two.attach('nobody', 0, LONG_MS)).toBeUndefined();
    });

    test('D4.2 gives each channel a slot, never the same one twice', async () => {
      const id = await create();
      const sub = (channel: string) => ({ channel, start: START, trusted: false });
      expect(await one.enter(id, sub('x'))).toBe(0);
      expect(await two.enter(id, { ...sub('y y'), trusted: true })).toBe(1);
      expect(await two.enter(id, { ...sub('x'), start: 'epochs-9-t' })).toBe(0);
      await one.leave(id, 'x');
      await one.leave(id, 'never');
      expect(await one.enter(id, sub('x'))).toBe(2);
      const { subscriptions } = (await two.read(id))!;
      expect([...subscriptions].sort((left, right) => left.slot - right.slot)).toEqual([
        { channel: 'y y', slot: 1, start: START, trusted: true },
        { channel: 'x', slot: 2, start: START, trusted: false },
      ]);
      expect(await one.enter('nobody', sub('x'))).toBeUndefined();
    });

    test('D5.1 numbers links, and tells the node that had the one before', async () => {
      const id = await create();
      expect((await one.attach(id, 0, LONG_MS))!.link).toBe(1);
      expect((await one.attach(id, 0, LONG_MS))!.link).toBe(2);
      expect((await two.attach(id, 0, LONG_MS))!.link).toBe(3);
      await a.until(() => a.nudges.some(({ record }) => record === id), 'the newer link');
      expect((await one.look(id, 2, 0, LONG_MS))!.link).toBe(3);
    });

    test('D5.3 keeps frames until they are acknowledged, and tells the linked node of them', async () => {
      const id = await create();
      await two.attach(id, 0, LONG_MS);
      expect(await one.push(id, [{ text: '1' }, { text: '"two\\n"' }])).toBe('pushed');
      await b.until(() => b.nudges.some(({ record }) => record === id), 'the frames');
      const entries = [
        { n: 1, text: '1' },
        { n: 2, text: '"two\\n"' },
      ];
      expect(await two.look(id, 1, 0, LONG_MS)).toMatchObject({ entries, newest: 2 });
      expect(await one.attach(id, 0, LONG_MS)).toMatchObject({ entries, newest: 2 });
      expect(await one.attach(id, 1, LONG_MS)).toMatchObject({ entries: entries.slice(1), newest: 2 });
      await one.push(id, [{ text: '3' }]);
      expect((await two.attach(id, 2, LONG_MS))!.entries).toEqual([{ n: 3, text: '3' }]);
      expect((await two.attach(id, 3, LONG_MS))!.entries).toEqual([]);
    });

    test('D5.3 acknowledges nothing by an older link', async () => {
      const id = await create();
      await one.push(id, [{ text: '1' }]);
      await one.attach(id, 0, LONG_MS);
      await two.attach(id, 0, LONG_MS);
      await one.look(id, 1, 1, LONG_MS);
      expect((await two.look(id, 2, 0, LONG_MS))!.entries).toHaveLength(1);
    });

    test('D5.3 removes what has arrived, whoever says so, and tells nobody', async () => {
      const id = await create();
      await one.attach(id, 0, LONG_MS);
      await one.push(
        id,
        Array.from({ length: MAX_INBOX_ENTRIES }, (_, i) => ({ text: String(i + 1) })),
      );
      expect(await one.push(id, [{ text: 'more' }])).toBe('full');
      await two.acknowledge(id, MAX_INBOX_ENTRIES - 1);
      await two.acknowledge(id, 1);
      const left = [{ n: MAX_INBOX_ENTRIES, text: String(MAX_INBOX_ENTRIES) }];
      expect((await one.look(id, 1, 0, LONG_MS))!.entries).toEqual(left);
      expect(await two.push(id, [{ text: 'x'.repeat(MAX_INBOX_BYTES - 3) }])).toBe('pushed');
      await two.acknowledge(id, MAX_INBOX_ENTRIES + 1);
      expect((await one.look(id, 1, 0, LONG_MS))!.entries).toEqual([]);
      await two.acknowledge('none', 1);
    });

    test('W11 tells the linked node of other credentials', async () => {
      const id = await create();
      await two.attach(id, 0, LONG_MS);
      await one.write(id, { user: { id: 'ann', claims: { more: true }, expiresAt: 5 } });
      await b.until(() => b.nudges.some(({ record }) => record === id), 'the credentials');
      expect((await two.look(id, 1, 0, LONG_MS))!.record.user).toEqual({
        id: 'ann',
        claims: { more: true },
        expiresAt: 5,
      });
    });

    test('P14 bounds the inbox in frames and bytes: all are taken, or none', async () => {
      const id = await create();
      const many = Array.from({ length: MAX_INBOX_ENTRIES - 1 }, () => ({ text: '0' }));
      expect(await one.push(id, many)).toBe('pushed');
      expect(await one.push(id, [{ text: '1' }, { text: '2' }])).toBe('full');
      expect(await one.push(id, [{ text: '1' }])).toBe('pushed');
      expect((await one.attach(id, MAX_INBOX_ENTRIES, LONG_MS))!.entries).toEqual([]);
      const half = 'ä'.repeat(MAX_INBOX_BYTES / 4);
      expect(await one.push(id, [{ text: half }, { text: half }])).toBe('pushed');
      expect(await one.push(id, [{ text: '1' }])).toBe('full');
      await one.attach(id, MAX_INBOX_ENTRIES + 1, LONG_MS);
      expect(await one.push(id, [{ text: '1' }])).toBe('pushed');
    });

    test('D6.1 runs each number once, in order, and answers it again', async () => {
      const id = await create();
      const first = attemptOf(1);
      expect(await one.begin(id, attemptOf(2), LONG_MS)).toEqual({ verdict: 'sequence', expected: 1 });
      expect(await one.begin(id, first, LONG_MS)).toMatchObject({ verdict: 'run', record: { origin: { id } } });
      expect(await two.begin(id, attemptOf(1), LONG_MS)).toEqual({ verdict: 'in_progress' });
      expect(await two.begin(id, attemptOf(1, 'other'), LONG_MS)).toEqual({ verdict: 'mismatch' });
      expect(await two.begin(id, attemptOf(2), LONG_MS)).toEqual({ verdict: 'sequence', expected: 1 });
      expect(await one.commit(id, first, '["answer"]')).toBe(true);
      expect(await one.commit(id, first, '["answer"]')).toBe(true);
      expect(await two.begin(id, attemptOf(1), LONG_MS)).toEqual({ verdict: 'done', answers: '["answer"]' });
      expect(await two.begin(id, attemptOf(1, 'other'), LONG_MS)).toEqual({ verdict: 'mismatch' });
      await run(id, 2, '[2]');
      expect(await two.begin(id, attemptOf(1), LONG_MS)).toEqual({ verdict: 'sequence', expected: 3 });
      expect(await one.begin('nobody', attemptOf(1), LONG_MS)).toEqual({ verdict: 'gone' });
    });

    test('D6.2, P8 gives a number to another attempt once its own has lapsed; the former commits nothing', async () => {
      const id = await create();
      const lapsed = attemptOf(1);
      await one.begin(id, lapsed, unitMs);
      const held = attemptOf(1);
      await harness.pass(2 * unitMs);
      expect(await two.begin(id, held, LONG_MS)).toMatchObject({ verdict: 'again' });
      expect(await one.extend(id, lapsed, LONG_MS)).toBe(false);
      expect(await two.extend(id, held, LONG_MS)).toBe(true);
      expect(await one.commit(id, lapsed, '["lost"]')).toBe(false);
      expect(await two.commit(id, held, '["kept"]')).toBe(true);
      expect(await one.commit(id, lapsed, '["lost"]')).toBe(false);
      expect(await one.begin(id, attemptOf(1), LONG_MS)).toEqual({ verdict: 'done', answers: '["kept"]' });
    });

    test('P9 answers a call outcome_unknown, once, where the node that runs it is not heard any more', async () => {
      const id = await create();
      const attempt = attemptOf(1);
      await one.begin(id, attempt, LONG_MS);
      const call = { key: '"s"', attempt: attempt.attempt };
      expect(await one.note(id, '"s"', attempt, unitMs)).toBe(true);
      expect(await one.push(id, [{ text: 'value', call }])).toBe('pushed');
      await one.commit(id, attempt, '[]');
      expect(await one.note(id, '"s"', attempt, unitMs)).toBe(true);
      await harness.pass(2 * unitMs);
      const { entries } = (await two.attach(id, 1, LONG_MS))!;
      expect(entries.map(({ text }) => JSON.parse(text))).toEqual([
        { id: 's', error: { code: 'outcome_unknown', message: 'It is not known whether this was applied' } },
      ]);
      expect(await one.push(id, [{ text: 'late', call, last: true }])).toBe('pushed');
      expect(await one.note(id, '"s"', attempt, unitMs)).toBe(false);
      expect((await two.attach(id, 2, LONG_MS))!.entries).toEqual([]);
    });

    test('P9 leaves the calls of a number that was not committed to whoever runs it again', async () => {
      const id = await create();
      const lapsed = attemptOf(1);
      await one.begin(id, lapsed, unitMs);
      await one.note(id, '7', lapsed, unitMs);
      await harness.pass(2 * unitMs);
      expect((await two.attach(id, 0, LONG_MS))!.entries).toEqual([]);
      const held = attemptOf(1);
      expect(await two.begin(id, held, LONG_MS)).toMatchObject({ verdict: 'again' });
      expect(await one.note(id, '7', lapsed, LONG_MS)).toBe(false);
      expect(await two.note(id, '7', held, LONG_MS)).toBe(true);
      await one.push(id, [{ text: 'old', call: { key: '7', attempt: lapsed.attempt } }]);
      await two.push(id, [{ text: 'new', call: { key: '7', attempt: held.attempt }, last: true }]);
      await two.push(id, [{ text: 'more', call: { key: '7', attempt: held.attempt } }]);
      expect((await two.attach(id, 0, LONG_MS))!.entries.map(({ text }) => text)).toEqual(['new']);
    });

    test('P9 tells who runs a number again which of its calls have ended', async () => {
      const id = await create();
      const lapsed = attemptOf(1);
      await one.begin(id, lapsed, unitMs);
      for (const key of ['7', '8']) await one.note(id, key, lapsed, LONG_MS);
      const call = { key: '7', attempt: lapsed.attempt };
      await one.push(id, [{ text: 'last', call, last: true }]);
      await harness.pass(2 * unitMs);
      const held = attemptOf(1);
      expect(await two.begin(id, held, LONG_MS)).toMatchObject({ verdict: 'again', ended: ['7'] });
      await one.push(id, [{ text: 'late', call, last: true }]);
      expect(await one.note(id, '7', lapsed, LONG_MS)).toBe(false);
      expect(await two.commit(id, held, '[]')).toBe(true);
      expect((await two.attach(id, 0, LONG_MS))!.entries.map(({ text }) => text)).toEqual(['last']);
    });

    test('tells the node that runs a call to cancel it', async () => {
      const id = await create();
      const attempt = attemptOf(1);
      await one.begin(id, attempt, LONG_MS);
      await one.note(id, '7', attempt, LONG_MS);
      await two.cancel(id, '8');
      await two.cancel(id, '7');
      await a.until(() => a.nudges.length > 0, 'the cancel');
      expect(a.nudges).toEqual([{ record: id, call: '7' }]);
    });

    test('ends a record once, for one node; it is told for a while how', async () => {
      const id = await create();
      await one.enter(id, { channel: 'x', start: START, trusted: false });
      await two.attach(id, 0, LONG_MS);
      const ended = await Promise.all([one.end(id, OVER, LONG_MS), two.end(id, AWAY, LONG_MS)]);
      const [record] = ended.filter((found) => found !== undefined);
      expect(ended.filter((found) => found !== undefined)).toHaveLength(1);
      expect(record!.subscriptions).toHaveLength(1);
      await b.until(() => b.nudges.some((nudge) => nudge.record === id), 'the end');
      expect((await two.look(id, 1, 0, LONG_MS))!.record.over).toEqual(record!.over);
      expect(await one.push(id, [{ text: '1' }])).toBe('gone');
      expect(await one.enter(id, { channel: 'y', start: START, trusted: false })).toBeUndefined();
      expect(await one.begin(id, attemptOf(1), LONG_MS)).toEqual({ verdict: 'gone' });
      await one.settle(id);
      await one.settle(id);
      const told = await two.read(id);
      expect([told!.over, told!.subscriptions]).toEqual([record!.over, []]);
      expect((await two.attach(id, 0, LONG_MS))!.record.over).toEqual(record!.over);
    });

    test('D5.1, W10 claims a record whose peer did not come back, once, and not one that did', async () => {
      const away = await create({ client: 'tab' }, unitMs);
      const there = await create({}, unitMs);
      await one.attach(there, 0, LONG_MS);
      const [claimed, ...others] = await claim();
      expect(others).toEqual([]);
      expect(claimed).toMatchObject({ attempt: 1, record: { origin: { id: away }, client: 'tab', over: AWAY } });
      expect(await one.end(away, OVER, LONG_MS)).toBeUndefined();
      await two.settle(away);
      await a.session.sweep();
      expect(await one.claim(100, AWAY, LONG_MS)).toEqual([]);
      expect((await one.read(there))!.over).toBeUndefined();
    });

    test('W10 claims a record after its last link is gone, not after an older one', async () => {
      const id = await create();
      await one.attach(id, 0, LONG_MS);
      await one.attach(id, 0, LONG_MS);
      await one.detach(id, 1, 1);
      const other = await create({}, unitMs);
      expect((await claim()).map(({ record }) => record.origin.id)).toEqual([other]);
      await one.detach(id, 2, 1);
      const late = await create({}, 1);
      const ids: string[] = [];
      while (!ids.includes(late)) ids.push(...(await claim()).map(({ record }) => record.origin.id));
      // Whether the first one was looked at by now depends on the broker; it has not been claimed by its older link.
      expect(ids.every((found) => found === late || found === id)).toBe(true);
    });

    test('P10 gives the hooks of an ended record to another node where they did not run in time', async () => {
      const id = await create();
      await one.end(id, OVER, unitMs);
      const [claimed] = await claim();
      expect(claimed).toMatchObject({ attempt: 2, record: { origin: { id }, over: OVER } });
      const [again] = await (async () => {
        await two.settle(id);
        const other = await create({}, 1);
        return [(await claim()).map(({ record }) => record.origin.id), other];
      })();
      expect(again).not.toContain(id);
    });

    test('counts and finds records by their subjects, on all nodes, until they end', async () => {
      const user = { id: 'ann', claims: {} };
      const [id, other] = [await create({ user }), await create({ user })];
      expect(await two.count([`a:${id}`, 'u:ann', 'u:bob'])).toEqual([1, 2, 0]);
      expect([...(await two.ofUser('ann'))].sort()).toEqual([id, other].sort());
      await one.end(id, OVER, LONG_MS);
      expect(await two.count([`a:${id}`, 'u:ann'])).toEqual([0, 1]);
      expect(await one.ofUser('ann')).toEqual([other]);
    });

    test('lists records that are not over', async () => {
      const user = { id: 'ann', claims: {} };
      const [id, other] = [await create({ user, client: 'tab' }), await create()];
      await one.enter(id, { channel: 'x', start: START, trusted: false });
      await one.attach(id, 0, LONG_MS);
      const ids = async (filter: { userId?: string; channel?: string }): Promise<string[]> =>
        (await two.list(filter)).map(({ record }) => record.origin.id).sort();
      expect(await ids({})).toEqual([id, other].sort());
      expect(await ids({ userId: 'ann' })).toContain(id);
      expect(await two.list({ channel: 'x' })).toEqual([
        { node: 'a', record: expect.objectContaining({ client: 'tab', user }) },
      ]);
      await one.end(id, OVER, LONG_MS);
      expect(await ids({})).toEqual([other]);
    });

    test('W7 keeps the members that have a record where the node ends on which they came', async () => {
      const entry = { connection: 'c1', member: 'ann', info: null };
      await a.session.join('p', { ...entry, recorded: true });
      await a.session.join('p', { connection: 'c2', member: 'bob', info: null });
      await a.session.close();
      const { users } = await b.session.presence('p');
      expect(users.map(({ id }) => id)).toEqual(['ann']);
      await b.session.leave('p', 'c1', 0);
      expect((await b.session.presence('p')).users).toEqual([]);
    });
  });
}
