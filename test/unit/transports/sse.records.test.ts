import { afterEach, describe, expect, it } from '@jest/globals';
import { memoryBroker } from '../../../lib/brokers/memory.broker.js';
import type { RecordConnection } from '../../../lib/hub/record-connection.js';
import { SendTransport } from '../../../lib/transports/send.transport.js';
import { sse } from '../../../lib/transports/sse.transport.js';
import { get, pollWaits, post } from '../../support/polling-peer.js';
import { ManualClock } from '../../../lib/testing/manual-clock.js';
import { StreamPeer } from '../../support/stream-peer.js';
import { EventStream } from './support/event-stream.js';
import { TestNode, TOKEN, tokens, type NodeOptions } from './support/node.js';

/** A tick of the heartbeat, and what follows from it. */
async function letPass(clock: ManualClock): Promise<void> {
  clock.advance(40);
  await new Promise(setImmediate);
}

describe('streams of connections with records', () => {
  const nodes: TestNode[] = [];
  const peers: StreamPeer[] = [];
  const streams: EventStream[] = [];

  afterEach(async () => {
    for (const peer of peers.splice(0)) peer.cut();
    for (const stream of streams.splice(0)) stream.close();
    for (const node of nodes.splice(0)) {
      await node.stop();
      expect(node.errors).toEqual([]);
    }
  });

  async function start(options: NodeOptions = {}): Promise<TestNode> {
    const node = await TestNode.start(options);
    nodes.push(node);
    return node;
  }

  const at = (node: TestNode): (() => string) => {
    return () => `http://${node.host}/realtime`;
  };

  async function connect(...args: Parameters<typeof StreamPeer.connect>): Promise<StreamPeer> {
    const peer = await StreamPeer.connect(...args);
    peers.push(peer);
    return peer;
  }

  async function native(node: TestNode, cursor: string, format = 'native'): Promise<EventStream> {
    const headers = { 'Last-Event-ID': cursor };
    const stream = await EventStream.open(node.port, `/realtime/sse?channels=chat.a&format=${format}`, headers);
    streams.push(stream);
    return stream;
  }

  const seen = (hooks: string[]): NonNullable<NodeOptions['application']> => ({
    connected: async () => void hooks.push('connected'),
    resumed: async () => void hooks.push('resumed'),
    disconnected: async () => void hooks.push('disconnected'),
  });

  it('W10 makes a connection by POST: $connected has its pass and the answers of its channels', async () => {
    const node = await start();
    const body = { client: 'tab-1', positions: { 'chat.a': null, nothing: null } };
    const stream = await EventStream.open(node.port, '/realtime/sse', {}, body);
    streams.push(stream);
    const [first] = await stream.take(1);
    expect([stream.response.statusCode, stream.response.headers['content-type']]).toEqual([200, 'text/event-stream']);
    expect(first!.block).toMatch(/^retry: \d+\ndata: /);
    expect(first!.data).toEqual({
      event: '$connected',
      data: {
        connection: first!.data.data.pass.slice(0, 16),
        heartbeatMs: 60_000,
        timeoutMs: 60_000,
        maxFrameBytes: 65_536,
        pass: expect.stringMatching(/^[\w-]{38}$/),
        channels: {
          'chat.a': { position: expect.any(String), size: 100, windowMs: 300_000 },
          nothing: { error: { code: 'unknown_channel', message: 'No such channel is declared' } },
        },
      },
    });
    const [connection] = await node.connected();
    expect([connection!.transport, connection!.client]).toEqual(['sse', 'tab-1']);
    await node.publish('chat.a', 'said', 1);
    const [, second] = await stream.take(2);
    expect(second!.block).toBe(`data: ${JSON.stringify(second!.data)}`);
    expect(second!.data).toMatchObject({ channel: 'chat.a', event: 'said', data: 1, offset: 1 });
  });

  it('W10, P1 is one connection on all nodes, over streams and polls', async () => {
    const broker = memoryBroker();
    const hooks: string[] = [];
    const options = { broker, application: seen(hooks) };
    const all = [await start(options), await start(options), await start(options)];
    const peer = await connect(at(all[0]!), { channels: { 'chat.a': null, 'chat.b': null } });
    const told: string[] = [];
    const note = (frames: any[]): void => {
      told.push(...frames.filter(({ channel }) => channel).map(({ channel, data }) => `${channel} ${data}`));
    };
    for (let i = 1; i <= 12; i++) {
      peer.base = at(all[i % 3]!);
      if (i % 4 === 0) peer.cut();
      await all[(i + 1) % 3]!.publish(i % 2 ? 'chat.a' : 'chat.b', 'n', i);
      if (i % 4 === 0) note(await peer.poll());
      else {
        expect((await peer.open()).data).toMatchObject({ connection: peer.id });
        note(await peer.received(({ data }) => data === i));
      }
    }
    expect(told).toEqual(Array.from({ length: 12 }, (_, i) => `chat.${(i + 1) % 2 ? 'a' : 'b'} ${i + 1}`));
    expect(hooks).toEqual(['connected', 'resumed', 'resumed']);
  });

  it('D5.3 sends frames for this peer alone until they are acknowledged, with their numbers', async () => {
    const broker = memoryBroker();
    const [one, two] = [await start({ broker }), await start({ broker })];
    const peer = await connect(at(one));
    const [connection] = await one.connected();
    connection!.emit('hello', 1);
    connection!.send('{"event":"raw"}');
    expect(await peer.received(({ event }) => event === 'raw')).toEqual([
      { event: 'hello', data: 1 },
      { event: 'raw' },
    ]);
    expect([peer.inbox, peer.stream.events.at(-1)!.block]).toEqual([2, 'id: 2\ndata: {"event":"raw"}']);
    peer.inbox = 1; // the second one is lost
    peer.base = at(two);
    await peer.open();
    connection!.emit('hello', 3); // by the record: the link is another node's
    const frames = await peer.received(({ data }) => data === 3);
    expect(frames).toEqual([{ event: 'raw' }, { event: 'hello', data: 3 }]);
    expect((await post(`${at(one)()}/send`, { pass: peer.pass, inbox: 3 }).reply).body).toEqual({});
    peer.inbox = 0;
    await peer.open();
    connection!.emit('hello', 4);
    expect(await peer.received(({ event }) => event === 'hello')).toEqual([{ event: 'hello', data: 4 }]);
  });

  it('P14 ends in order where half of the inbox is not acknowledged, so that its peer comes back with its number', async () => {
    const node = await start();
    const peer = await connect(at(node));
    const [connection] = await node.connected();
    for (let i = 1; i <= 129; i++) connection!.emit('n', i);
    await peer.stream.ended();
    expect(peer.frames.map(({ data }) => data)).toEqual(Array.from({ length: 129 }, (_, i) => i + 1));
    await peer.open();
    for (let i = 130; i <= 250; i++) connection!.emit('n', i);
    await peer.received(({ data }) => data === 250);
    expect(peer.inbox).toBe(250);
  });

  it('W9 supersedes the older link, a stream or a poll, on another node too', async () => {
    const broker = memoryBroker();
    const [one, two] = [await start({ broker }), await start({ broker })];
    const peer = await connect(at(one), { channels: { 'chat.a': null } });
    const first = peer.stream;
    const told = { event: '$disconnect', data: { code: 4409, reason: 'superseded', reconnect: false } };
    peer.base = at(two);
    await peer.open();
    await first.ended();
    expect(first.events.at(-1)!.data).toEqual(told);
    const second = peer.stream;
    const waiting = peer.begin();
    await second.ended();
    expect(second.events.at(-1)!.data).toEqual(told);
    await pollWaits(two.hub, peer);
    peer.base = at(one);
    await peer.open();
    expect((await waiting.reply).body).toMatchObject({ superseded: true });
    await two.publish('chat.a', 'said', 1);
    expect(await peer.received(() => true)).toMatchObject([{ channel: 'chat.a', data: 1 }]);
  });

  it('D6 is sent to by /send, and answered there: streams and what is late come by the stream', async () => {
    const broker = memoryBroker();
    const [one, two] = [await start({ broker }), await start({ broker })];
    const peer = await connect(at(one));
    peer.base = at(two);
    const answer = await peer.request('$subscribe', { channel: 'chat.a' });
    expect(answer.data).toEqual({ position: expect.any(String), size: 100, windowMs: 300_000 });
    peer.positions['chat.a'] = answer.data.position;
    await two.publish('chat.a', 'said', 1);
    expect(await peer.received(() => true)).toMatchObject([{ channel: 'chat.a', data: 1 }]);
    expect(await peer.request('echo', 'x')).toMatchObject({ data: 'x' });
    expect(await peer.request('$unsubscribe', { channel: 'chat.a' })).toMatchObject({ data: null });
    await two.publish('chat.a', 'said', 2);
    await peer.request('$subscribe', { channel: 'chat.b' });
    await two.publish('chat.b', 'said', 3);
    expect(await peer.received(({ data }) => data === 3)).toMatchObject([{ channel: 'chat.b', data: 3 }]);
  });

  it('D3.2 follows a channel that is left and entered again from the position that its answer told', async () => {
    const broker = memoryBroker();
    const [one, two] = [await start({ broker }), await start({ broker })];
    const peer = await connect(at(one), { channels: { 'chat.a': null } });
    const since = peer.positions['chat.a'];
    await one.publish('chat.a', 'said', 1);
    await one.publish('chat.a', 'said', 2);
    await peer.received(({ data }) => data === 2);
    peer.base = at(two);
    const [, entered] = await peer.send(
      { id: 'a', event: '$unsubscribe', data: { channel: 'chat.a' } },
      { id: 'b', event: '$subscribe', data: { channel: 'chat.a', since } },
    );
    expect(entered).toMatchObject({ data: { position: since, recovered: true } });
    await one.publish('chat.a', 'said', 3);
    expect((await peer.received(({ data }) => data === 3)).map(({ data }) => data)).toEqual([1, 2, 3]);
  });

  it('D4.1 goes on by a cursor with its pass: the ids hold pass, inbox and positions', async () => {
    const node = await start();
    const peer = await connect(at(node), { channels: { 'chat.a': null, 'chat.b': null } });
    const from = peer.positions['chat.a']!;
    await node.publish('chat.b', 'said', 1);
    await peer.received(({ data }) => data === 1);
    const stream = await native(node, `1.${peer.pass}~0:${from}`);
    const [opened, first] = await stream.take(2);
    expect(opened).toMatchObject({
      event: '$open',
      id: `1.${peer.pass}~0:${from}!1:${opened!.data.channels['chat.b'].position}`,
      data: { connection: peer.id, cursor: 'used', channels: { 'chat.a': { position: from } } },
    });
    expect(first).toMatchObject({ event: 'said', data: 1, id: expect.stringMatching(/~0:\w+-0-0!1:\w+-1-\w+$/) });
    const [connection] = await node.connected();
    connection!.emit('hello', 'you');
    const hello = (await stream.take(3))[2]!;
    expect(hello).toMatchObject({ event: 'hello', data: 'you', id: first!.id.replace('~', '.1~') });
    stream.close();

    // The cursor is what the next stream needs, and a poll too.
    connection!.emit('hello', 'again');
    const again = await native(node, hello.id, 'frames');
    const frames = (await again.take(2)).map(({ data }) => data);
    expect(frames).toMatchObject([
      { event: '$connected', data: { connection: peer.id, cursor: 'used' } },
      { event: 'hello', data: 'again' },
    ]);
    again.close();
    connection!.emit('hello', 'once more');
    const { body } = await get(`${at(node)()}/poll?cursor=${encodeURIComponent(again.lastEventId)}`).reply;
    expect(body.frames).toEqual([{ event: 'hello', data: 'once more' }]);
    expect(body.cursor).toBe(again.lastEventId.replace('.2~', '.3~'));
  });

  it('D4.3, D5.2 is refused with 410 where there is no record, and told how it ended', async () => {
    const node = await start();
    const peer = await connect(at(node));
    const [connection] = await node.connected();
    connection!.close(4403, 'enough');
    await peer.stream.ended();
    const over = { code: 4403, reason: 'enough', reconnect: false };
    expect(peer.frames).toEqual([{ event: '$disconnect', data: over }]);
    await expect(peer.open()).rejects.toMatchObject({
      reply: { status: 410, body: { error: { code: 'gone', details: { disconnect: over } } } },
    });
    for (const pass of ['x'.repeat(38), `${peer.pass.slice(0, 37)}_`, 'a.b']) {
      const stream = await native(node, `1.${pass}~`);
      expect([stream.response.statusCode, pass]).toEqual([pass === 'a.b' ? 200 : 410, pass]);
    }
  });

  it('rotates in order, with jitter: the connection goes on, and nothing is lost', async () => {
    const hooks: string[] = [];
    const node = await start({
      transports: [sse({ rotateMs: 200 }), new SendTransport()],
      application: seen(hooks),
    });
    const peer = await connect(at(node), { channels: { 'chat.a': null } });
    for (let i = 1; i <= 3; i++) {
      await peer.stream.ended();
      await node.publish('chat.a', 'said', i);
      await peer.open();
      expect(await peer.received(() => true)).toMatchObject([{ channel: 'chat.a', data: i }]);
    }
    expect(hooks).toEqual(['connected']);
  });

  it('ends where its peer says so, on any node', async () => {
    const broker = memoryBroker();
    const hooks: string[] = [];
    const [one, two] = [await start({ broker, application: seen(hooks) }), await start({ broker })];
    const peer = await connect(at(one));
    const { status, body } = await post(`${at(two)()}/send`, { pass: peer.pass, end: true }).reply;
    expect([status, body]).toEqual([200, {}]);
    await peer.stream.ended();
    expect(peer.frames).toEqual([{ event: '$disconnect', data: { code: 1000, reason: '', reconnect: false } }]);
    await expect(peer.open()).rejects.toMatchObject({ reply: { status: 410 } });
    for (const bad of [{ end: false }, { end: true, seq: 1, frames: [{ event: 'x' }] }, {}, { inbox: -1 }]) {
      expect((await post(`${at(two)()}/send`, { pass: peer.pass, ...bad }).reply).status).toBe(400);
    }
  });

  it('leaves nothing of a connection whose peer went before it had its pass', async () => {
    let open!: () => void;
    let gone!: () => void;
    const ended = new Promise<void>((resolve) => (gone = resolve));
    const node = await start({
      application: {
        connected: () => new Promise((resolve) => (open = resolve)),
        disconnected: async () => gone(),
      },
    });
    const closed = new Promise<void>((resolve) => {
      node.server.once('request', (_request, response) => response.once('close', resolve));
    });
    const { request, reply } = post(`${at(node)()}/sse`, {});
    reply.catch(() => undefined);
    await node.called;
    request.destroy();
    await closed;
    open();
    await ended;
    expect(node.hub.connections.size).toBe(0);
  });

  it('asks for signs of life by comments; where none comes the stream ends, and the connection goes on', async () => {
    const clock = new ManualClock();
    const node = await start({ clock, heartbeat: { intervalMs: 1_000, timeoutMs: 1_000 } });
    const peer = await connect(at(node), { channels: { 'chat.a': null } });
    for (let i = 1; i <= 3; i++) {
      while (peer.stream.comments.length < i) await letPass(clock);
    }
    expect(peer.stream.over).toBe(false);
    peer.stream.response.pause();
    const data = 'x'.repeat(60_000);
    const [connection] = (await node.connected()) as RecordConnection[];
    while (connection!.current?.hasRoom === true) await node.publish('chat.a', 'said', data);
    while (connection!.current !== undefined) await letPass(clock);
    expect(connection!.readyState).toBe(1);
    const { offset } = (await peer.poll())[0];
    expect(offset).toBe(1);
  });

  it('ends the connection of a peer that does not read with slow_consumer', async () => {
    const node = await start({
      limits: { maxOutboxBytes: 4_096 },
      channels: { 'chat.:room': { publish: true, slowConsumer: 'disconnect' } },
    });
    const peer = await connect(at(node), { channels: { 'chat.a': null } });
    const [connection] = await node.connected();
    peer.stream.response.pause();
    const data = 'x'.repeat(60_000);
    while (connection!.readyState === 1) await node.publish('chat.a', 'said', data);
    expect(connection!.closed).toEqual({ code: 4508, reason: 'slow_consumer' });
    peer.stream.response.resume();
    await peer.stream.ended();
  });

  it('goes on elsewhere where its node drains', async () => {
    const broker = memoryBroker();
    const lasting = await start({ broker });
    const node = await start({ broker });
    const peer = await connect(at(node), { channels: { 'chat.a': null } });
    const draining = node.hub.drain();
    await peer.stream.ended();
    await draining;
    expect(peer.frames).toEqual([]);
    await expect(peer.open()).rejects.toMatchObject({ reply: { status: 503 } });
    peer.base = at(lasting);
    await peer.open();
    await lasting.publish('chat.a', 'said', 1);
    expect(await peer.received(() => true)).toMatchObject([{ data: 1 }]);
  });

  it.each([
    [4_000, 4_000],
    [600_000, 15_000],
  ])(
    'tells its peer when to come back where its node drains, within %i ms of drain.windowMs',
    async (windowMs, most) => {
      const broker = memoryBroker();
      await start({ broker });
      const node = await start({ broker, drain: { windowMs } });
      const listeners = await Promise.all([0, 1].map(() => connect(at(node), { channels: { 'chat.a': null } })));
      const opening = listeners[0]!.stream.retryMs;
      await node.hub.drain();
      await Promise.all(listeners.map(({ stream }) => stream.ended()));
      const [first, second] = listeners.map(({ stream }) => stream.retryMs!);
      expect(first).toBeGreaterThanOrEqual(1);
      expect(second).not.toBe(opening);
      expect(second).toBeGreaterThanOrEqual(Math.min(windowMs / 2, most));
      expect(Math.max(first!, second!)).toBeLessThanOrEqual(most);
    },
  );

  it('W11 goes on with credentials that were renewed on another node', async () => {
    const broker = memoryBroker();
    const options = { broker, auth: tokens };
    const [one, two] = [await start(options), await start(options)];
    const headers = { Authorization: `Bearer ${TOKEN.ann}` };
    const peer = await connect(at(one), { headers });
    peer.base = at(two);
    expect(await peer.request('$auth', { token: TOKEN.ann })).toMatchObject({ data: { user: { id: 'ann' } } });
    expect(await peer.request('$auth', { token: TOKEN.bob })).toMatchObject({ error: { code: 'forbidden' } });
    await one.hub.control.emit({ user: 'ann' }, 'hello', 1);
    expect(await peer.received(() => true)).toEqual([{ event: 'hello', data: 1 }]);
  });

  it('is served without long polling', async () => {
    const node = await start({ transports: [sse(), new SendTransport()] });
    const peer = await connect(at(node));
    expect(await peer.request('echo', 1)).toMatchObject({ data: 1 });
  });
});
