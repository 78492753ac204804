import { afterEach, describe, expect, test } from '@jest/globals';
import type { Call } from '../../lib/hub/call.js';
import type { Connection } from '../../lib/hub/connection.js';
import { UserIdentity } from '../../lib/hub/identity.js';
import type { Broker } from '../../lib/hub/ports/broker.js';
import { MAX_INBOX_ENTRIES } from '../../lib/hub/ports/records.js';
import { RealtimeException } from '../../lib/protocol/errors.js';
import { longPolling } from '../../lib/transports/long-polling.transport.js';
import { SendTransport } from '../../lib/transports/send.transport.js';
import { post } from '../support/polling-peer.js';
import { ShiftedClock } from '../support/shifted-clock.js';
import { secret } from '../support/secrets.js';
import { TestNode, TOKEN, tokens, type NodeOptions } from '../unit/transports/support/node.js';
import type { Frame, TransportUnderTest, Wish, WirePeer } from './wires/wire.js';

const ENDING = secret('token-that-ends');

/**
 * The contract of a transport, as tests: what peers see of it on the wire, whatever the wire is and whichever broker is
 * behind the hub. Where wires differ by what they are, {@link TransportUnderTest.binding} says how, and that is tested.
 *
 * That something does not arrive is shown by what follows it on the same way and does arrive.
 */
export function describeTransport(wire: TransportUnderTest, brokerName: string, makeBroker: () => Broker): void {
  const { binding } = wire;
  const hasWayUp = binding.up !== 'none';

  describe(`transport: ${wire.title}, broker: ${brokerName}`, () => {
    const nodes: TestNode[] = [];
    const peers: WirePeer[] = [];
    let calls: Call[] = [];

    afterEach(async () => {
      for (const peer of peers.splice(0)) peer.break();
      for (const node of nodes.splice(0)) {
        await node.stop();
        expect(node.errors).toEqual([]);
      }
    });

    async function start({ application, ...options }: NodeOptions = {}): Promise<TestNode> {
      calls = [];
      const node = await TestNode.start({
        broker: makeBroker(),
        application: { handle, ...application },
        ...options,
      });
      nodes.push(node);
      return node;
    }

    async function open(node: TestNode, wish?: Wish): Promise<WirePeer> {
      const peer = await wire.open(node, wish);
      peers.push(peer);
      return peer;
    }

    /** `echo` answers; `fails` does with an error; `holds` is held until the test answers. */
    function handle(_connection: Connection, data: unknown, call: Call): boolean {
      if (!['echo', 'fails', 'holds'].includes(call.event)) return false;
      calls.push(call);
      if (call.event === 'echo') call.answer(data);
      if (call.event === 'fails') call.fail({ code: 'forbidden', message: 'No', details: { data } });
      if (call.event !== 'holds') call.handled();
      return true;
    }

    /** A call that the handler holds. */
    async function held(): Promise<Call> {
      while (calls.length === 0) await new Promise(setImmediate);
      return calls[0]!;
    }

    const connectionOf = async (node: TestNode, { connection }: WirePeer): Promise<Connection> =>
      (await node.connected()).find(({ id }) => id === connection)!;

    function closeOf(connection: Connection): Promise<{ code: number; reason: string }> {
      return new Promise((resolve) =>
        connection.on('close', (code: number, reason: string) => resolve({ code, reason })),
      );
    }

    /** Publications of a channel, by their data. */
    const said = (frames: readonly Frame[]): unknown[] => frames.map(({ data }) => data);

    describe('connect', () => {
      test('2.1 greets with $connected, first of all and once', async () => {
        const seen: string[] = [];
        const node = await start({
          auth: tokens,
          application: { connected: async ({ id, transport }) => void seen.push(id, transport) },
        });
        const peer = await open(node, { token: TOKEN.ann });
        expect(peer.hello).toEqual({
          event: '$connected',
          data: {
            connection: expect.any(String),
            heartbeatMs: 60_000,
            timeoutMs: 60_000,
            maxFrameBytes: 65_536,
            user: { id: 'ann' },
          },
        });
        expect(seen).toEqual([peer.connection, wire.name]);
        (await connectionOf(node, peer)).emit('hello', 1);
        expect(await peer.next()).toEqual({ event: 'hello', data: 1 });
      });

      test('2.1 lets through what connection hooks send', async () => {
        const node = await start({
          application: { connected: async (connection) => void connection.emit('early', 1) },
        });
        const connection = node.connected();
        const peer = await open(node);
        (await connection)[0]!.emit('late', 2);
        // Over WebSocket what the hooks send comes before.
        const frames = [peer.hello, ...(await peer.take(2))];
        const own = frames.filter(({ event }) => event !== '$connected');
        expect(own).toEqual([
          { event: 'early', data: 1 },
          { event: 'late', data: 2 },
        ]);
      });

      test('4.2, 3.1 takes the name of the peer: its own publications are withheld, and told by a marker', async () => {
        const node = await start();
        const peer = await open(node, { client: 'me', channels: { 'chat.a': null } });
        expect((await connectionOf(node, peer)).client).toBe('me');
        const own = await node.publish('chat.a', 'said', 1, 'me');
        await node.publish('chat.a', 'said', 2);
        const [marker, other] = await peer.take(2);
        expect(marker).toEqual({ channel: 'chat.a', skipped: 1, offset: 1, tag: own.split('-')[2] });
        expect(other).toMatchObject({ data: 2, offset: 2 });
      });
    });

    describe('refuse', () => {
      test.each([
        ['a token of nobody', { token: TOKEN.bad }, 401, 'unauthenticated'],
        ['a token that has ended', { token: TOKEN.old }, 401, 'token_expired'],
        [
          'a page of another site',
          { token: TOKEN.ann, headers: { Origin: 'https://evil.example' } },
          403,
          'origin_refused',
        ],
      ])('8.3, 8.4 refuses %s with its status, before anything else happens', async (_, wish, status, code) => {
        const node = await start({ auth: tokens });
        expect(await wire.refused(node, wish)).toMatchObject({ status, code });
        expect(node.hub.connections.size).toBe(0);
      });

      test(`2.10 without a token: ${binding.withoutToken}`, async () => {
        const node = await start({ auth: tokens });
        if (binding.withoutToken === 401) {
          expect(await wire.refused(node)).toMatchObject({ status: 401, code: 'unauthenticated' });
          return;
        }
        const peer = await open(node, { laterToken: TOKEN.ann });
        expect(peer.hello).toMatchObject({ event: '$connected', data: { user: { id: 'ann' } } });
        expect(await wire.refused(node, { laterToken: TOKEN.bad })).toMatchObject({
          ...{ status: 101, code: 'unauthenticated', close: 4401 },
        });
      });

      test('8.4 refuses with draining until peers are let in', async () => {
        const node = await start({ accepting: false });
        const refusal = await wire.refused(node);
        expect(refusal).toMatchObject({ status: 503, code: 'draining' });
        expect(Number(refusal.retryAfter)).toBeGreaterThan(0);
      });

      test(`2.3, 8.4 tells that a hook of connections refuses, with ${binding.refusedByHook.status}`, async () => {
        const node = await start({
          application: { connected: () => Promise.reject(new RealtimeException('forbidden')) },
        });
        expect(await wire.refused(node)).toMatchObject({ ...binding.refusedByHook, code: 'forbidden' });
        while (node.hub.connections.size > 0) await new Promise(setImmediate);
      });

      test(`3.1, 7.11 of channels one of which is refused, refuses ${binding.refusedChannel}`, async () => {
        const subscribing = (_: Connection, { channel }: { channel: string }): Promise<undefined> =>
          channel === 'chat.b' ? Promise.reject(new RealtimeException('forbidden')) : Promise.resolve(undefined);
        const node = await start({ application: { subscribing } });
        const wish = { channels: { 'chat.a': null, 'chat.b': null } };
        if (binding.refusedChannel === 'the peer') {
          const refusal = { status: 403, code: 'forbidden', details: { channel: 'chat.b' } };
          expect(await wire.refused(node, wish)).toMatchObject(refusal);
          expect(node.hub.connections.size).toBe(0);
          return;
        }
        const peer = await open(node, wish);
        expect(peer.channels).toMatchObject({
          'chat.a': { size: 100 },
          'chat.b': { error: { code: 'forbidden' } },
        });
      });
    });

    describe('subscribe and recover', () => {
      test('3.2, 4.1 answers each channel, and tells its publications once and in order', async () => {
        const node = await start();
        const before = await node.publish('chat.a', 'said', 0);
        const peer = await open(node, { channels: { 'chat.a': null, 'quiet.b': null } });
        expect(peer.channels).toEqual({
          'chat.a': { position: before, size: 100, windowMs: 300_000 },
          'quiet.b': { position: expect.stringMatching(/^\w{6}-0-0$/), size: 0, windowMs: 0 },
        });
        const position = await node.publish('chat.a', 'said', { text: 'é\n' });
        expect(await peer.next()).toEqual({
          ...{ channel: 'chat.a', event: 'said', data: { text: 'é\n' } },
          ...{ offset: 2, tag: position.split('-')[2] },
        });
        for (let n = 1; n <= 20; n++) await node.publish('chat.a', 'said', n);
        expect(said(await peer.take(20))).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
        await peer.listens(node);
        await node.publish('quiet.b', 'said', 'quiet');
        expect(await peer.next()).toMatchObject({ channel: 'quiet.b', data: 'quiet', offset: 1 });
      });

      test('6.6 recovers what was missed from a position, and goes on live', async () => {
        const node = await start();
        const first = await open(node, { channels: { 'chat.a': null, 'chat.b': null } });
        await node.publish('chat.a', 'said', 1);
        const seen = await first.next();
        const position = first.after(seen);
        first.break();
        await node.publish('chat.a', 'said', 2);
        const until = await node.publish('chat.a', 'said', 3);
        const none = first.channels['chat.b']!.position;
        const second = await open(node, { channels: { 'chat.a': position, 'chat.b': none } });
        expect(second.channels).toMatchObject({
          'chat.a': { recovered: true, position, until },
          'chat.b': { recovered: true, position: none },
        });
        expect(said(await second.take(2))).toEqual([2, 3]);
        await node.publish('chat.a', 'said', 4);
        expect(await second.next()).toMatchObject({ data: 4, offset: 4 });
      });

      test('6.7 says where live begins for a position that it does not know', async () => {
        const node = await start();
        const top = await node.publish('chat.a', 'said', 1);
        const peer = await open(node, { channels: { 'chat.a': 'Absent-7-z' } });
        expect(peer.channels).toMatchObject({ 'chat.a': { recovered: false, position: top } });
        await node.publish('chat.a', 'said', 2);
        expect(await peer.next()).toMatchObject({ data: 2 });
      });

      test(`11.3 is told what is published without history: ${binding.withoutHistory}`, async () => {
        const node = await start();
        const peer = await open(node, { channels: { 'quiet.a': null, 'chat.b': null } });
        await peer.listens(node);
        if (binding.withoutHistory === 'while it waits') {
          peer.pause();
          await node.publish('chat.b', 'said', 1); // the request that waits is answered
          expect(await peer.next()).toMatchObject({ data: 1 });
        }
        const position = await node.publish('quiet.a', 'said', 2);
        peer.resume();
        const lost = { channel: 'quiet.a', event: '$lost', data: { position, reason: 'trimmed' } };
        const told = { channel: 'quiet.a', data: 2, offset: 1 };
        expect(await peer.next()).toMatchObject(binding.withoutHistory === 'always' ? told : lost);
      });

      test('4.4 tells the end of a subscription, and nothing of the channel after it', async () => {
        const node = await start();
        const peer = await open(node, { channels: { 'chat.a': null, 'chat.b': null } });
        await (await connectionOf(node, peer)).unsubscribe('chat.a');
        expect(await peer.next()).toMatchObject({
          channel: 'chat.a',
          event: '$unsubscribed',
          data: { code: 'rejected' },
        });
        await node.publish('chat.a', 'said', 1);
        await node.publish('chat.b', 'said', 2);
        expect(await peer.next()).toMatchObject({ channel: 'chat.b', data: 2 });
      });

      if (hasWayUp) {
        test('3.2–3.4 subscribes and unsubscribes an open connection', async () => {
          const node = await start();
          const peer = await open(node);
          const { data } = await peer.ask('$subscribe', { channel: 'chat.a' });
          expect(data).toEqual({ position: expect.stringMatching(/^\w{6}-0-0$/), size: 100, windowMs: 300_000 });
          await node.publish('chat.a', 'said', 1);
          expect(await peer.next()).toMatchObject({ channel: 'chat.a', data: 1 });
          expect(await peer.ask('$unsubscribe', { channel: 'chat.a' })).toMatchObject({ data: null });
          await node.publish('chat.a', 'said', 2);
          await peer.ask('$subscribe', { channel: 'chat.b' });
          await node.publish('chat.b', 'said', 3);
          expect(await peer.next()).toMatchObject({ channel: 'chat.b', data: 3 });
        });
      }
    });

    if (hasWayUp) {
      describe('request', () => {
        test('1.5, 1.10 answers each request by its id, with data or an error', async () => {
          const peer = await open(await start());
          expect(await peer.ask('echo', { text: 'é' }, 7)).toEqual({ id: 7, data: { text: 'é' } });
          expect(await peer.ask('echo', 1, 'text')).toEqual({ id: 'text', data: 1 });
          expect(await peer.ask('fails', 2, 8)).toEqual({
            id: 8,
            error: { code: 'forbidden', message: 'No', details: { data: 2 } },
          });
          expect(await peer.ask('nothing', 3)).toMatchObject({ error: { code: 'unknown_event' } });
        });

        test('1.8 answers what is no frame with bad_frame, and goes on', async () => {
          const peer = await open(await start());
          expect(await peer.ask('', 1)).toMatchObject({ error: { code: 'bad_frame' } });
          expect(await peer.ask('echo', 2)).toMatchObject({ data: 2 });
        });

        test('1.6, 3.11 streams the values of an answer, and ends it when that is over or the peer cancels', async () => {
          const peer = await open(await start());
          const first = peer.exchange('holds', undefined, 'a');
          const call = await held();
          let stopped = 0;
          call.stream(() => stopped++);
          call.next(1);
          call.next(2);
          while (peer.answersSoFar('a').length < 2) await new Promise(setImmediate);
          call.done();
          call.handled();
          expect(await first).toEqual([
            { id: 'a', data: 1, more: true },
            { id: 'a', data: 2, more: true },
            { id: 'a', done: true },
          ]);
          calls.splice(0);
          const second = peer.exchange('holds', undefined, 'b');
          const other = await held();
          other.stream(() => stopped++);
          other.next(3);
          while (peer.answersSoFar('b').length < 1) await new Promise(setImmediate);
          expect(stopped).toBe(0);
          expect(await peer.ask('$cancel', { id: 'b' })).toMatchObject({ data: null });
          expect(await second).toEqual([
            { id: 'b', data: 3, more: true },
            { id: 'b', done: true },
          ]);
          expect(stopped).toBe(1);
        });

        test('3.5, 3.6 publishes: once for a key, and not to its sender without echo', async () => {
          const node = await start();
          const peer = await open(node, { client: 'me', channels: { 'chat.a': null } });
          const item = { channel: 'chat.a', event: 'said', data: 1, key: 'k', echo: false };
          const { data } = await peer.ask('$publish', item);
          expect(await peer.ask('$publish', item)).toMatchObject({ data });
          await peer.ask('$publish', { channel: 'chat.a', event: 'said', data: 2 });
          const [marker, other] = await peer.take(2);
          expect(peer.after(marker)).toBe(data.position);
          expect(marker).toMatchObject({ skipped: 1 });
          expect(other).toMatchObject({ data: 2, offset: 2 });
          const history = await peer.ask('$history', { channel: 'chat.a' });
          expect(said(history.data.publications)).toEqual([1, 2]);
        });
      });
    } else {
      test('10.20 has no way up: its connection has no record', async () => {
        const node = await start();
        const { connection } = await open(node);
        const body = { pass: `${connection}${'A'.repeat(22)}`, seq: 1, frames: [{ id: 1, event: 'echo' }] };
        const { status, body: answer } = await post(`http://${node.host}/realtime/send`, body).reply;
        expect([status, answer.error.code, calls]).toEqual([410, 'gone', []]);
      });
    }

    test('4.5–4.7 presence: tells who comes and who leaves, and a peer that is closed with 4403 leaves at once', async () => {
      const node = await start({ auth: tokens, channels: { 'chat.:room': { presence: true } } });
      const ann = await open(node, { token: TOKEN.ann, channels: { 'chat.a': null } });
      const own = { channel: 'chat.a', event: '$presence' };
      expect(await ann.next()).toMatchObject({ ...own, data: { count: 1, joined: [{ id: 'ann', info: null }] } });
      const bob = await open(node, { token: TOKEN.bob, channels: { 'chat.a': null } });
      expect(await ann.next()).toMatchObject({ ...own, data: { count: 2, joined: [{ id: 'bob', info: null }] } });
      if (hasWayUp) {
        const { data } = await ann.ask('$presence', { channel: 'chat.a' });
        expect(data.users.map(({ id }: { id: string }) => id).sort()).toEqual(['ann', 'bob']);
      }
      await node.connected(2);
      (await connectionOf(node, bob)).close(4403, 'forbidden');
      expect(await ann.next()).toMatchObject({ ...own, data: { count: 1, left: ['bob'] } });
    });

    describe('slow reader', () => {
      test('9.4, 6.8 gets everything in order when it reads again: history is the buffer', async () => {
        const node = await start({
          limits: { maxOutboxBytes: 128 * 1024 },
          channels: { 'chat.:room': { history: { size: 500, ttlMs: 60_000 } } },
        });
        const peer = await open(node, { channels: { 'chat.a': null } });
        peer.pause();
        for (let n = 1; n <= 300; n++) await node.publish('chat.a', 'said', { n, fill: 'z'.repeat(8_000) });
        peer.resume();
        const frames = await peer.take(300);
        expect(frames.map(({ data }) => data.n)).toEqual(Array.from({ length: 300 }, (_, i) => i + 1));
      });

      test(`9.4, 11.4 ends with slow_consumer, and costs no more than its bound: ${binding.slowBy}`, async () => {
        const node = await start({
          limits: { maxOutboxBytes: 256 * 1024 },
          channels: { 'chat.:room': { history: false } },
        });
        const peer = await open(node, { channels: { 'chat.a': null } });
        const connection = await connectionOf(node, peer);
        await peer.listens(node);
        peer.pause();
        let sent = 0;
        let most = 0;
        while (connection.closed === undefined) {
          if (binding.slowBy === 'inbox') connection.emit('own', sent);
          else await node.publish('chat.a', 'said', 'z'.repeat(16 * 1024));
          sent += 1;
          most = Math.max(most, connection.link?.bufferedBytes ?? 0);
          await new Promise(setImmediate);
        }
        peer.resume();
        expect(connection.closed).toEqual({ code: 4508, reason: 'slow_consumer' });
        expect(most).toBeLessThanOrEqual(64 * 1024 + 17 * 1024);
        if (binding.slowBy === 'inbox') expect(sent).toBeGreaterThan(MAX_INBOX_ENTRIES);
        expect((await peer.ended).told).toMatchObject({ code: 4508, reason: 'slow_consumer', reconnect: true });
      });
    });

    describe('heartbeat', () => {
      test(`2.6, 2.7 a peer sees that the hub is there: ${binding.signOfLife}`, async () => {
        const clock = new ShiftedClock();
        const node = await start({
          clock,
          heartbeat: { intervalMs: 1_000, timeoutMs: 900 },
          ...(binding.signOfLife === 'empty answer'
            ? { transports: [longPolling({ holdMs: 30 }), new SendTransport()] }
            : {}),
        });
        const peer = await open(node, { channels: { 'chat.a': null } });
        for (let signs = 1; signs <= 3; signs++) {
          await clock.pass(1_000, 40);
          await peer.alive(signs);
          // What the peer says has arrived where an answer to it has come; a comment is not answered.
          if (hasWayUp) await peer.ask('echo', signs);
        }
        expect(node.hub.connections.size).toBe(1);
        if (binding.signOfLife !== 'question') return;
        peer.silent = true;
        await clock.pass(2_000, 40);
        const told = { code: 4507, reason: 'heartbeat_timeout', reconnect: true };
        expect(await peer.ended).toMatchObject({ told, wire: binding.end(told) });
      });
    });

    test('2.12 expiry: asks for new credentials in time, and ends with 4401 25 s after their end', async () => {
      const clock = new ShiftedClock();
      const until = Date.now() + 100_000;
      const node = await start({
        clock,
        auth: { authenticate: () => Promise.resolve(new UserIdentity('ann', {}, until)) },
      });
      const peer = await open(node, { token: ENDING, channels: { 'chat.a': null } });
      await peer.listens(node);
      await clock.pass(75_000);
      await node.publish('chat.a', 'said', 'not yet');
      expect(await peer.next()).toMatchObject({ data: 'not yet' });
      await peer.listens(node);
      await clock.pass(10_000);
      expect(await peer.next()).toEqual({ event: '$refresh' });
      await peer.listens(node);
      await clock.pass(45_000);
      const told = { code: 4401, reason: 'token_expired', reconnect: expect.any(Boolean) };
      expect((await peer.ended).told).toEqual(told);
      expect(node.hub.connections.size).toBe(0);
    });

    if (hasWayUp) {
      test('3.10 expiry: $auth renews the credentials, and the connection goes on', async () => {
        const clock = new ShiftedClock();
        const begun = Date.now();
        const ends = [begun + 100_000, begun + 500_000];
        const node = await start({
          clock,
          auth: { authenticate: () => Promise.resolve(new UserIdentity('ann', {}, ends.shift())) },
        });
        const peer = await open(node, { token: ENDING, channels: { 'chat.a': null } });
        await peer.listens(node);
        await clock.pass(85_000);
        expect(await peer.next()).toEqual({ event: '$refresh' });
        expect(await peer.ask('$auth', { token: ENDING })).toMatchObject({
          data: { user: { id: 'ann' }, expiresAt: begun + 500_000 },
        });
        await clock.pass(60_000);
        await node.publish('chat.a', 'said', 'on');
        expect(await peer.next()).toMatchObject({ data: 'on' });
      });
    }

    test(`8.4, 11.16 drain: ${binding.drain}`, async () => {
      const broker = makeBroker();
      const [node, other] = [await start({ broker }), await start({ broker })];
      const peer = await open(node, { channels: { 'chat.a': null } });
      const connection = await connectionOf(node, peer);
      await node.publish('chat.a', 'said', 1);
      expect(await peer.next()).toMatchObject({ data: 1 });
      await peer.listens(node);
      if (binding.drain === 'the connection goes on elsewhere') {
        peer.moveTo(other);
        await node.hub.drain();
        await other.publish('chat.a', 'said', 2);
        expect(await peer.next()).toMatchObject({ data: 2 });
        expect(other.hub.connections.has(peer.connection)).toBe(true);
      } else {
        await node.hub.drain();
        const { told, wire: end } = await peer.ended;
        expect(told).toMatchObject({ code: 4503, reason: 'draining', reconnect: true, delayMs: expect.any(Number) });
        expect(end).toEqual(binding.end(told!));
        expect(connection.closed).toEqual({ code: 4503, reason: 'draining' });
      }
      expect(await wire.refused(node)).toMatchObject({ status: 503, code: 'draining' });
    });

    describe('close codes', () => {
      test.each([
        [4403, 'forbidden', false],
        [4503, 'draining', true],
        [4410, 'revoked', false],
        [4000, 'enough', true],
      ])('2.3, 2.4 ends with %d %s: told in $disconnect, behind all else', async (code, reason, reconnect) => {
        const node = await start();
        const peer = await open(node, { channels: { 'chat.a': null } });
        const connection = await connectionOf(node, peer);
        const closed = closeOf(connection);
        await peer.listens(node);
        connection.emit('last', 1);
        connection.close(code, reason);
        const end = await peer.ended;
        expect(end.told).toEqual({ code, reason, reconnect });
        expect(end.wire).toEqual(binding.end(end.told!));
        expect(await peer.next()).toEqual({ event: 'last', data: 1 });
        expect(await closed).toEqual({ code, reason });
        expect(node.hub.connections.size).toBe(0);
      });

      test(`2.3 a peer that leaves is known by ${binding.goodbye === 'silence' ? 'its silence' : binding.goodbye.code}`, async () => {
        const node = await start();
        const peer = await open(node, { channels: { 'chat.a': null } });
        const connection = await connectionOf(node, peer);
        if (binding.goodbye === 'silence') {
          peer.leave();
          const back = await open(node);
          await connectionOf(node, back);
          expect(connection.closed).toBeUndefined();
          return;
        }
        const closed = closeOf(connection);
        peer.leave();
        expect(await closed).toEqual(binding.goodbye);
        expect(node.hub.connections.size).toBe(0);
      });
    });
  });
}
