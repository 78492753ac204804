import { afterEach, describe, expect, it, jest } from '@jest/globals';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { Connection } from '../../../lib/hub/connection.js';
import { RealtimeException } from '../../../lib/protocol/errors.js';
import { formatCursor, MAX_CURSOR_LENGTH } from '../../../lib/protocol/cursor.js';
import { sse } from '../../../lib/transports/sse.transport.js';
import { MAX_STREAM_CHANNELS } from '../../../lib/transports/sse-wish.js';
import { ManualClock } from '../../../lib/testing/manual-clock.js';
import { EventStream } from './support/event-stream.js';
import { TestNode, TOKEN, tokens, type NodeOptions } from './support/node.js';
import { Trickle } from './support/trickle.js';
import { ask, RawWire } from './support/wire.js';

const nodes: TestNode[] = [];
const streams: EventStream[] = [];
const wires: RawWire[] = [];
const EVENT_SOURCE = { Accept: 'text/event-stream' };

async function start(options?: NodeOptions): Promise<TestNode> {
  const node = await TestNode.start(options);
  nodes.push(node);
  return node;
}

async function open(node: TestNode, query: string, headers?: Record<string, string>): Promise<EventStream> {
  const stream = await EventStream.open(node.port, `/realtime/sse?${query}`, headers);
  streams.push(stream);
  return stream;
}

function closeOf(connection: Connection): Promise<[code: number, reason: string]> {
  return new Promise((resolve) => connection.on('close', (code: number, reason: string) => resolve([code, reason])));
}

afterEach(async () => {
  jest.restoreAllMocks();
  for (const stream of streams.splice(0)) stream.close();
  for (const wire of wires.splice(0)) wire.socket.destroy();
  for (const node of nodes.splice(0)) await node.stop();
});

describe('sse(): a native stream', () => {
  it('opens with retry, $open and the cursor', async () => {
    const node = await start();
    const stream = await open(node, 'channels=chat.a');
    const [first] = await stream.take(1);
    const [connection] = await node.connected();
    const position = first!.data.channels['chat.a'].position as string;
    expect(first!.block).toBe(
      `retry: ${stream.retryMs}\nevent: $open\nid: 1~0:${position}\n` +
        `data: {"connection":"${connection!.id}","cursor":"none",` +
        `"channels":{"chat.a":{"position":"${position}","size":100,"windowMs":300000}}}`,
    );
    expect(stream.retryMs).toBeGreaterThanOrEqual(1_500);
    expect(stream.retryMs).toBeLessThanOrEqual(2_500);
    expect(stream.response.statusCode).toBe(200);
    expect(stream.response.headers).toMatchObject({
      'content-type': 'text/event-stream',
      'cache-control': 'no-store, no-transform',
      'x-accel-buffering': 'no',
      connection: 'close', // as the request asked
    });
  });

  it('writes a publication as event, id and data', async () => {
    const node = await start();
    const stream = await open(node, 'channels=chat.a');
    await stream.take(1);
    const position = await node.publish('chat.a', 'message', { text: 'é' });
    const [, event] = await stream.take(2);
    expect(event!.block).toBe(`event: message\nid: 1~0:${position}\ndata: {"text":"é"}`);
  });

  it('percent-encodes line ends in event names, so that no field is forged', async () => {
    const node = await start();
    const stream = await open(node, 'channels=chat.a');
    await stream.take(1);
    const position = await node.publish('chat.a', 'a\r\nid: 1~\n\ndata: x', 'a\r\nb');
    const [, event] = await stream.take(2);
    expect(event!.block).toBe(`event: a%0D%0Aid: 1~%0A%0Adata: x\nid: 1~0:${position}\ndata: "a\\r\\nb"`);
  });

  it('keeps a cursor over all its channels', async () => {
    const node = await start();
    const stream = await open(node, 'channels=chat.a,chat.b,chat.c');
    const [first] = await stream.take(1);
    const at = ['chat.a', 'chat.b', 'chat.c'].map((name) => first!.data.channels[name].position as string);
    expect(first!.id).toBe(`1~0:${at[0]}!1:${at[1]}!2:${at[2]}`);
    const b = await node.publish('chat.b', 'message', 1);
    const c = await node.publish('chat.c', 'message', 2);
    const [, second, third] = await stream.take(3);
    expect(second!.block).toBe(`event: message\nid: 1~0:${at[0]}!1:${b}!2:${at[2]}\ndata: 1`);
    expect(third!.block).toBe(`event: message\nid: 1~0:${at[0]}!1:${b}!2:${c}\ndata: 2`);
  });

  it('recovers by Last-Event-ID what was missed', async () => {
    const node = await start();
    const before = await open(node, 'channels=chat.a,chat.b');
    await before.take(1);
    before.close();
    const missed = await node.publish('chat.b', 'message', 'missed');
    const after = await open(node, 'channels=chat.a,chat.b', { 'Last-Event-ID': before.lastEventId });
    const [first, second] = await after.take(2);
    expect(first!.data).toMatchObject({
      cursor: 'used',
      channels: { 'chat.a': { recovered: true }, 'chat.b': { recovered: true, until: missed } },
    });
    expect(first!.id).toBe(before.lastEventId);
    expect(second).toMatchObject({ data: 'missed' });
    expect(second!.id).toContain(`1:${missed}`);
  });

  it('takes ?lastEventId= too; the header wins; what is no cursor is ignored and said so', async () => {
    const node = await start();
    const position = await node.publish('chat.a', 'message', 1);
    await node.publish('chat.a', 'message', 2);
    const byQuery = await open(node, `channels=chat.a&lastEventId=${encodeURIComponent(`1~0:${position}`)}`);
    expect((await byQuery.take(2))[1]!.data).toBe(2);
    const byHeader = await open(node, `channels=chat.a&lastEventId=1~0:${position}`, { 'Last-Event-ID': '17' });
    const [first] = await byHeader.take(1);
    expect(first!.data).toMatchObject({ cursor: 'ignored' });
    expect(first!.data.channels['chat.a']).not.toHaveProperty('recovered');
  });

  it('tells skipped publications by $skipped, with its cursor', async () => {
    const node = await start();
    const stream = await open(node, 'channels=chat.a&client=me');
    await stream.take(1);
    const skipped = await node.publish('chat.a', 'message', 1, 'me');
    const next = await node.publish('chat.a', 'message', 2);
    const [, marker, event] = await stream.take(3);
    const tag = skipped.split('-')[2];
    expect(marker!.block).toBe(
      `event: $skipped\nid: 1~0:${skipped}\ndata: {"channel":"chat.a","skipped":1,"offset":1,"tag":"${tag}"}`,
    );
    expect(event!.id).toBe(`1~0:${next}`);
  });

  it('tells presence and the end of a subscription by events that name the channel', async () => {
    const node = await start({ auth: tokens, channels: { 'chat.:room': { presence: true } } });
    const stream = await open(node, 'channels=chat.a', { Authorization: `Bearer ${TOKEN.ann}` });
    const [, presence] = await stream.take(2);
    expect(presence).toMatchObject({
      event: '$presence',
      data: { channel: 'chat.a', count: 1, joined: [{ id: 'ann', info: null }] },
    });
    const [connection] = await node.connected();
    await connection!.unsubscribe('chat.a');
    const [, , ended] = await stream.take(3);
    expect(ended).toMatchObject({ event: '$unsubscribed', data: { channel: 'chat.a', code: 'rejected' } });
  });

  it('carries what the application sends to the peer: events, and text of any form', async () => {
    const node = await start({
      application: {
        connected: (connection) => {
          connection.emit('welcome', { n: 1 });
          return Promise.resolve();
        },
      },
    });
    const stream = await open(node, 'channels=chat.a');
    const [connection] = await node.connected();
    connection!.send('one\r\ntwo');
    connection!.send('{"a":1}');
    const [, welcome, text, json] = await stream.take(4);
    expect(welcome).toMatchObject({ event: 'welcome', data: { n: 1 }, block: 'event: welcome\ndata: {"n":1}' });
    expect(text).toMatchObject({ event: 'message', data: 'one\ntwo', block: 'data: one\ndata: two' });
    expect(json).toMatchObject({ event: 'message', data: { a: 1 } });
  });

  it('does not move its cursor by a channel that only the application subscribed', async () => {
    const node = await start();
    const stream = await open(node, 'channels=chat.a');
    const [first] = await stream.take(1);
    const [connection] = await node.connected();
    await connection!.subscribe('chat.z');
    await node.publish('chat.z', 'message', 1);
    const [, event] = await stream.take(2);
    expect(event).toMatchObject({ data: 1, id: first!.id, block: 'event: message\ndata: 1' });
  });
});

describe('sse(): format=frames', () => {
  it('opens with $connected and writes whole frames, with cursors', async () => {
    const node = await start({ auth: tokens });
    const stream = await open(node, 'channels=chat.a,chat.b&format=frames&client=c1', {
      Authorization: `Bearer ${TOKEN.ann}`,
    });
    const [first] = await stream.take(1);
    const [connection] = await node.connected();
    expect(connection!.client).toBe('c1');
    expect(first!.block.startsWith(`retry: ${stream.retryMs}\nid: 1~0:`)).toBe(true);
    const at = ['chat.a', 'chat.b'].map((name) => first!.data.data.channels[name].position as string);
    expect(first).toMatchObject({
      event: 'message',
      data: {
        event: '$connected',
        data: { connection: connection!.id, heartbeatMs: 60_000, user: { id: 'ann' }, cursor: 'none' },
      },
    });
    const position = await node.publish('chat.b', 'message', 1);
    const tag = position.split('-')[2];
    const [, event] = await stream.take(2);
    expect(event!.block).toBe(
      `id: 1~0:${at[0]}!1:${position}\n` +
        `data: {"channel":"chat.b","event":"message","data":1,"offset":1,"tag":"${tag}"}`,
    );
  });
});

describe('sse(): refusals', () => {
  it.each([
    ['', 400, 'invalid'],
    ['channels=', 400, 'invalid'],
    ['channels=chat.a,,chat.b', 400, 'invalid'],
    ['channels=chat.a,chat.a', 400, 'invalid'],
    ['channels=chat.a&format=xml', 400, 'invalid'],
    [`channels=chat.a&client=${'x'.repeat(65)}`, 400, 'invalid'],
    ['channels=other', 404, 'unknown_channel'],
    ['channels=chat.a,other', 404, 'unknown_channel'],
  ])('answers ?%s with %i %s', async (query, status, code) => {
    const node = await start();
    const answer = await ask(node.port, `/realtime/sse?${query}`, { headers: EVENT_SOURCE });
    expect([answer.status, answer.json.error.code]).toEqual([status, code]);
    expect(answer.headers).toMatchObject({ 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' });
    expect(node.hub.connections.size).toBe(0);
  });

  it('names the channel that was refused, and subscribes to none', async () => {
    const node = await start({
      application: {
        subscribing: (_connection, { channel }) =>
          channel === 'chat.b'
            ? Promise.reject(new RealtimeException('forbidden', 'Members only'))
            : Promise.resolve(undefined),
      },
    });
    const answer = await ask(node.port, '/realtime/sse?channels=chat.a,chat.b', { headers: EVENT_SOURCE });
    expect([answer.status, answer.json]).toEqual([
      403,
      { error: { code: 'forbidden', message: 'Members only', details: { channel: 'chat.b' } } },
    ]);
    expect(node.hub.subscriptions.channels.get('chat.a')!.subscribers.size).toBe(0);
  });

  it('answers a connection hook that refuses with its own status and details', async () => {
    const node = await start({
      application: { connected: () => Promise.reject(new RealtimeException('forbidden', 'Closed', { since: 1 })) },
    });
    const answer = await ask(node.port, '/realtime/sse?channels=chat.a', { headers: EVENT_SOURCE });
    expect([answer.status, answer.json]).toEqual([
      403,
      { error: { code: 'forbidden', message: 'Closed', details: { since: 1 } } },
    ]);
  });

  it('answers more channels than a connection may have with 429, an EventSource too, and runs no hook', async () => {
    const hooks: string[] = [];
    const node = await start({
      limits: { maxChannels: 2 },
      application: {
        connected: () => Promise.resolve(void hooks.push('connected')),
        subscribing: (_connection, { channel }) => Promise.resolve(void hooks.push(channel)),
      },
    });
    const answer = await ask(node.port, '/realtime/sse?channels=chat.a,chat.b,chat.c', {
      headers: EVENT_SOURCE,
    });
    expect([answer.status, answer.json.error.code]).toEqual([429, 'too_many_channels']);
    expect([hooks, node.hub.connections.size, [...node.hub.subscriptions.channels.keys()]]).toEqual([
      [],
      0,
      ['$control'],
    ]);
  });

  it('takes as many channels as a cursor holds, wherever they are, and no more', async () => {
    const node = await start({ limits: { maxChannels: false } });
    const names = Array.from({ length: MAX_STREAM_CHANNELS + 1 }, (_, i) => `chat.r${i}`);
    const longest = names.slice(1).map((_, slot) => [slot, `Epochs-${Number.MAX_SAFE_INTEGER}-1z141z3`] as const);
    const cursor = formatCursor(longest);
    expect(cursor.length).toBeLessThanOrEqual(MAX_CURSOR_LENGTH);
    const stream = await open(node, `channels=${names.slice(1).join(',')}`, { 'Last-Event-ID': cursor });
    expect((await stream.take(1))[0]!.data).toMatchObject({
      cursor: 'used',
      channels: { 'chat.r116': { recovered: false } },
    });
    const answer = await ask(node.port, `/realtime/sse?channels=${names.join(',')}`);
    expect([answer.status, answer.json.error]).toEqual([
      429,
      { code: 'too_many_channels', message: 'At most 116 channels per stream' },
    ]);
  });

  it('tells an EventSource to come back where the status would be 429 or 503', async () => {
    const node = await start({ accepting: false });
    const path = '/realtime/sse?channels=chat.a';
    const soft = await ask(node.port, path, { headers: EVENT_SOURCE });
    expect([soft.status, soft.headers['content-type']]).toEqual([200, 'text/event-stream']);
    expect(soft.body).toMatch(/^retry: \d+\n\n$/);
    for (const accept of ['text/event-stream, application/json', '*/*']) {
      const hard = await ask(node.port, path, { headers: { Accept: accept } });
      expect([hard.status, hard.json.error.code]).toEqual([503, 'draining']);
      expect(Number(hard.headers['retry-after'])).toBeGreaterThan(0);
    }
  });

  it('answers a stream that the drain ends before it began', async () => {
    let arrived: () => void = () => undefined;
    const hooked = new Promise<void>((resolve) => (arrived = resolve));
    const node = await start({
      application: {
        subscribing: () => {
          arrived();
          return new Promise(() => undefined);
        },
      },
    });
    const answer = ask(node.port, '/realtime/sse?channels=chat.a');
    await hooked;
    await node.hub.drain();
    const { status, json } = await answer;
    expect([status, json.error.code]).toEqual([503, 'draining']);
  });
});

describe('sse(): the life of a stream', () => {
  it('keeps a peer that reads, however late it finds the comments, and ends one that stops', async () => {
    const clock = new ManualClock();
    const node = await start({
      clock,
      heartbeat: { intervalMs: 800, timeoutMs: 700 },
      channels: { 'chat.:room': { slowConsumer: 'dropOldest' } },
    });
    const wire = await RawWire.get(node.port, '/realtime/sse?channels=chat.a');
    wires.push(wire);
    await wire.until(({ text }) => text.includes('$open'));
    const [connection] = await node.connected();
    const closed = closeOf(connection!);
    const trickle = new Trickle(node, wire.socket, clock);
    await trickle.readThrough(3_500);
    expect(connection!.closed).toBeUndefined();
    await trickle.stallThrough(4_000);
    expect(await closed).toEqual([4507, 'heartbeat_timeout']);
  });

  it('rotates: ends in order after rotateMs, and the peer goes on by its cursor', async () => {
    const node = await start({ transports: [sse({ retryMs: 10, rotateMs: 100 })] });
    const stream = await open(node, 'channels=chat.a');
    await stream.ended();
    expect(stream.events.map(({ event }) => event)).toEqual(['$open', '$disconnect']);
    expect(stream.events[1]!.data).toEqual({ code: 1001, reason: 'rotated', reconnect: true });
    await node.publish('chat.a', 'message', 1);
    const next = await open(node, 'channels=chat.a', { 'Last-Event-ID': stream.lastEventId });
    expect((await next.take(2))[1]!.data).toBe(1);
  });

  it.each(['native', 'frames'])(
    'N17 tells an EventSource when to come back where the node drains: %s',
    async (format) => {
      const node = await start({ drain: { windowMs: 100_000 } });
      const stream = await open(node, `channels=chat.a&format=${format}`);
      await node.hub.drain();
      await stream.ended();
      const { data } = stream.events.at(-1)!;
      const told = format === 'native' ? data : data.data;
      expect(told).toEqual({ code: 4503, reason: 'draining', reconnect: true, delayMs: expect.any(Number) });
      expect(stream.retryMs).toBe(Math.max(1, told.delayMs));
    },
  );

  it('leaves the connection usable for the next request', async () => {
    const node = await start();
    const wire = await RawWire.get(node.port, '/realtime/sse?channels=chat.a');
    wires.push(wire);
    expect(await wire.head()).toContain('Connection: keep-alive');
    const [connection] = await node.connected();
    await wire.until(({ text }) => text.includes('$open'));
    connection!.close(4403, 'forbidden');
    await wire.until(({ text }) => text.endsWith('\r\n0\r\n\r\n'));
    wire.socket.write(`GET /other HTTP/1.1\r\nHost: ${node.host}\r\n\r\n`);
    await wire.until(({ text }) => text.includes('the application'));
  });

  it('serves HTTP/1.0 without chunks', async () => {
    const node = await start();
    const wire = await RawWire.open(node.port);
    wires.push(wire);
    wire.socket.write(`GET /realtime/sse?channels=chat.a HTTP/1.0\r\nHost: ${node.host}\r\n\r\n`);
    expect(await wire.head()).not.toMatch(/transfer-encoding|keep-alive/i);
    await wire.until(({ text }) => text.endsWith('}\n\n'));
    await node.publish('chat.a', 'message', 1);
    await wire.until(({ text }) => /event: message\nid: .*\ndata: 1\n\n$/.test(text));
    const [connection] = await node.connected();
    connection!.close();
    await wire.ended;
  });

  it('serves a request that was pipelined behind another', async () => {
    const node = await start({ fallback: (_request, response) => setImmediate(() => response.end('first')) });
    const wire = await RawWire.open(node.port);
    wires.push(wire);
    const requests = ['/slow', '/realtime/sse?channels=chat.a'].map(
      (path) => `GET ${path} HTTP/1.1\r\nHost: ${node.host}\r\n\r\n`,
    );
    wire.socket.write(requests.join(''));
    await wire.until(({ text }) => text.includes('$open'));
    await node.publish('chat.a', 'message', 1);
    await wire.until(({ text }) => /event: message\nid: .*\ndata: 1\n\n/.test(text));
    expect(wire.text.indexOf('first')).toBeLessThan(wire.text.indexOf('$open'));
  });

  it('ends what was pipelined behind a stream when the peer goes', async () => {
    const node = await start();
    const accepted = once(node.server, 'connection') as Promise<[Socket]>;
    const wire = await RawWire.open(node.port);
    wires.push(wire);
    const get = `GET /realtime/sse?channels=chat.a HTTP/1.1\r\nHost: ${node.host}\r\n\r\n`;
    wire.socket.write(get.repeat(15));
    const connections = await node.connected(15);
    const [socket] = await accepted;
    expect(socket.listenerCount('close')).toBeLessThan(10);
    const closed = Promise.all(connections.map(closeOf));
    wire.socket.destroy();
    expect(await closed).toEqual(Array(15).fill([1006, '']));
    expect(node.hub.connections.size).toBe(0);
  });

  it('forgets a peer that goes while the guards of a pipelined request run', async () => {
    let release: () => void = () => undefined;
    const guarded = new Promise<void>((resolve) => (release = resolve));
    let admitted = 0;
    let arrived: () => void = () => undefined;
    const both = new Promise<void>((resolve) => (arrived = resolve));
    const node = await start({
      application: {
        admit: () => {
          if (++admitted === 2) arrived();
          return guarded;
        },
      },
    });
    const accepted = once(node.server, 'connection') as Promise<[Socket]>;
    const wire = await RawWire.open(node.port);
    wires.push(wire);
    const get = `GET /realtime/sse?channels=chat.a HTTP/1.1\r\nHost: ${node.host}\r\n\r\n`;
    wire.socket.write(get.repeat(2));
    await both;
    const [socket] = await accepted;
    const gone = once(socket, 'close');
    wire.socket.destroy();
    await gone;
    release();
    await new Promise(setImmediate);
    expect(node.hub.connections.size).toBe(0);
  });

  it('ends a pipelined stream that the hub closes, although its response has not begun', async () => {
    const node = await start();
    const wire = await RawWire.open(node.port);
    wires.push(wire);
    const get = `GET /realtime/sse?channels=chat.a HTTP/1.1\r\nHost: ${node.host}\r\n\r\n`;
    wire.socket.write(get.repeat(2));
    const [first, second] = await node.connected(2);
    await new Promise(setImmediate);
    const closed = [first!, second!].map(closeOf);
    second!.close(4403, 'forbidden');
    // The stream before it never ends: the peer could not read the end of the second one.
    expect(await Promise.all(closed)).toEqual([
      [1006, ''],
      [4403, 'forbidden'],
    ]);
  });
});
