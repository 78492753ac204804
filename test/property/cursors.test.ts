import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { formatCursor, MAX_CURSOR_LENGTH, parseCursor } from '../../lib/protocol/cursor.js';
import { formatPosition, parsePosition } from '../../lib/protocol/position.js';
import { get, post } from '../support/polling-peer.js';
import { EventStream } from '../unit/transports/support/event-stream.js';
import { TestNode } from '../unit/transports/support/node.js';
import { runs, TIMEOUT_MS } from './runs.js';

const chars = (alphabet: string, minLength: number, maxLength: number): fc.Arbitrary<string> =>
  fc.string({ unit: fc.constantFrom(...Array.from(alphabet)), minLength, maxLength });
const LOWER = '0123456789abcdefghijklmnopqrstuvwxyz';
const BASE62 = `${LOWER}ABCDEFGHIJKLMNOPQRSTUVWXYZ`;

const position = fc
  .tuple(chars(BASE62, 6, 6), fc.nat(Number.MAX_SAFE_INTEGER), chars(LOWER, 1, 13))
  .map(([epoch, offset, tag]) => formatPosition(epoch, offset, tag));
const slots = fc.uniqueArray(fc.tuple(fc.nat(36 ** 5 - 1), position), { maxLength: 60, selector: ([slot]) => slot });
const pass = fc.option(chars(`${BASE62}-_`, 1, 64), { nil: undefined });
const inbox = fc.nat(1e15 - 1);
const cursor = fc.tuple(slots, pass, inbox).map(([items, secret, n]) => formatCursor(items, secret, n));

/** A text with a piece replaced by another one. */
const altered = (text: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc
    .tuple(text, fc.nat(), fc.nat(5), fc.oneof(fc.string({ maxLength: 5 }), chars('1~.:!-0az', 0, 5)))
    .map(([whole, at, length, piece]) => {
      const start = at % (whole.length + 1);
      return whole.slice(0, start) + piece + whole.slice(start + length);
    });

describe('cursors', () => {
  test(
    'P15: what was written is read back',
    () =>
      fc.assert(
        fc.property(slots, pass, inbox, (items, secret, n) => {
          const text = formatCursor(items, secret, n);
          fc.pre(text.length <= MAX_CURSOR_LENGTH);
          expect(parseCursor(text)).toEqual({
            ...(secret === undefined ? {} : { pass: secret, ...(n > 0 && { inbox: n }) }),
            positions: new Map(items),
          });
        }),
        runs(3_000),
      ),
    TIMEOUT_MS,
  );

  test(
    'P15: no text makes the reader throw, and what it reads is a set of positions',
    () =>
      fc.assert(
        fc.property(fc.oneof(altered(cursor), fc.string({ unit: 'binary' }), fc.anything()), (value) => {
          const read = parseCursor(value);
          if (read === undefined) return;
          expect(formatCursor(read.positions, read.pass, read.inbox)).toBe(value);
          for (const at of read.positions.values()) expect(parsePosition(at)).toBeDefined();
        }),
        runs(5_000),
      ),
    TIMEOUT_MS,
  );

  describe('at the hub', () => {
    let node: TestNode;
    let good: string;
    beforeAll(async () => {
      node = await TestNode.start({ limits: { handshakesPerAddress: false, handshakesPerSecond: false } });
      const at: [number, string][] = [];
      for (const [slot, name] of ['chat.a', 'chat.secret', 'chat.b'].entries()) {
        at.push([slot, await node.publish(name, 'message', `first of ${name}`)]);
        await node.publish(name, 'message', `second of ${name}`);
      }
      good = formatCursor(at);
    });
    afterAll(() => node.stop());

    test(
      'P15: whatever the cursor, a stream holds the channels of its request, and nothing else',
      () =>
        fc.assert(
          fc.asyncProperty(fc.oneof(altered(fc.constant(good)), altered(cursor)), async (text) => {
            const query = `channels=chat.a,chat.b&lastEventId=${encodeURIComponent(text)}`;
            const stream = await EventStream.open(node.port, `/realtime/sse?${query}`);
            try {
              if (parseCursor(text)?.pass !== undefined) {
                expect(stream.response.statusCode).toBe(410); // it names no record
                return;
              }
              const [opened] = await stream.take(1);
              expect(Object.keys(opened!.data.channels as object)).toEqual(['chat.a', 'chat.b']);
              const last = await node.publish('chat.b', 'last', text.length);
              await stream.until(() => stream.events.at(-1)!.id.endsWith(last));
              expect(JSON.stringify(stream.events)).not.toContain('secret');
            } finally {
              stream.close();
            }
          }),
          runs(300),
        ),
      TIMEOUT_MS,
    );

    test(
      'P15: whatever the cursor of a connection, a stream and a poll hold its channels, and nothing else; an altered pass names no record',
      async () => {
        const { body } = await post(`http://${node.host}/realtime/poll`, {
          positions: { 'chat.a': null, 'chat.b': null },
        }).reply;
        const own = body.pass as string;
        const text = altered(fc.constant(good.replace('1~', `1.${own}~`)));
        const said = fc.oneof(
          text,
          text.map((whole) => whole.replace(own, `${own}.7`)),
        );
        await fc.assert(
          fc.asyncProperty(said, async (whole) => {
            const named = parseCursor(whole)?.pass;
            fc.pre(named !== undefined);
            const query = encodeURIComponent(whole);
            const stream = await EventStream.open(node.port, `/realtime/sse?lastEventId=${query}`);
            const poll = get(`http://${node.host}/realtime/poll?cursor=${query}`);
            try {
              if (named !== own) {
                expect([stream.response.statusCode, (await poll.reply).status]).toEqual([410, 410]);
                return;
              }
              const [opened] = await stream.take(1);
              expect(Object.keys(opened!.data.channels as object)).toEqual(['chat.a', 'chat.b']);
              await node.publish('chat.secret', 'last', whole.length);
              await node.publish('chat.b', 'last', whole.length);
              const { status, body: answer } = await poll.reply;
              expect(status).toBe(200);
              expect(JSON.stringify([stream.events, answer.frames])).not.toContain('secret');
              const { positions, ...rest } = parseCursor(answer.cursor)!;
              expect(rest).toEqual({ pass: own, ...(whole.includes(`${own}.`) && { inbox: expect.any(Number) }) });
              expect([...positions.keys()].sort()).toEqual([0, 1]);
            } finally {
              stream.close();
            }
          }),
          runs(300),
        );
      },
      TIMEOUT_MS,
    );
  });
});
