import { afterEach, describe, expect, it } from '@jest/globals';
import { memoryBroker } from '../../../lib/brokers/memory.broker.js';
import type { Refused } from '../../support/polling-peer.js';
import { get, PollingPeer, pollWaits, post } from '../../support/polling-peer.js';
import { TestNode, type NodeOptions } from './support/node.js';

describe('long polling', () => {
  let nodes: TestNode[] = [];
  afterEach(async () => {
    for (const node of nodes.splice(0)) {
      await node.stop();
      expect(node.errors).toEqual([]);
    }
    nodes = [];
  });

  async function start(options: NodeOptions = {}): Promise<TestNode> {
    const node = await TestNode.start(options);
    nodes.push(node);
    return node;
  }

  const at = (node: TestNode): (() => string) => {
    return () => `http://${node.host}/realtime`;
  };

  /** Each request goes to the next node. */
  function around(all: readonly TestNode[]): () => string {
    let next = 0;
    return () => at(all[next++ % all.length]!)();
  }

  it('W9 makes a connection at once with 201, its pass, and $connected', async () => {
    const node = await start();
    const { status, headers, body } = await post(`${at(node)()}/poll`, {
      client: 'tab-1',
      positions: { 'chat.a': null, nothing: null },
    }).reply;
    expect([status, headers['cache-control'], headers['x-content-type-options']]).toEqual([201, 'no-store', 'nosniff']);
    expect(body.pass).toMatch(/^[\w-]{38}$/);
    expect(body.frames).toEqual([
      {
        event: '$connected',
        data: {
          connection: body.pass.slice(0, 16),
          heartbeatMs: 60_000,
          timeoutMs: 60_000,
          maxFrameBytes: 65_536,
          channels: {
            'chat.a': { position: expect.any(String), size: 100, windowMs: 300_000 },
            nothing: { error: { code: 'unknown_channel', message: 'No such channel is declared' } },
          },
        },
      },
    ]);
    expect(body.positions).toEqual({ 'chat.a': body.frames[0].data.channels['chat.a'].position });
    expect(body.inbox).toBe(0);
  });

  it('W9 answers a waiting poll with what is published, and nothing twice', async () => {
    const node = await start();
    const peer = await PollingPeer.connect(at(node), { channels: { 'chat.a': null } });
    const waiting = peer.begin();
    await node.connected();
    await node.publish('chat.a', 'said', 1);
    expect(await peer.poll(waiting)).toMatchObject([{ channel: 'chat.a', event: 'said', data: 1, offset: 1 }]);
    await node.publish('chat.a', 'said', 2);
    await node.publish('chat.a', 'said', 3);
    expect((await peer.until(({ data }) => data === 3)).map(({ data }) => data)).toEqual([2, 3]);
  });

  it('P1 loses nothing where each request comes to another node', async () => {
    const broker = memoryBroker();
    const all = [await start({ broker }), await start({ broker }), await start({ broker })];
    const peer = await PollingPeer.connect(around(all), { channels: { 'chat.a': null, 'chat.b': null } });
    const seen: string[] = [];
    for (let i = 1; i <= 12; i++) {
      await all[i % 3]!.publish(i % 2 ? 'chat.a' : 'chat.b', 'n', i);
      seen.push(...(await peer.poll()).map(({ channel, data }) => `${channel} ${data}`));
    }
    const wanted = Array.from({ length: 12 }, (_, i) => `chat.${(i + 1) % 2 ? 'a' : 'b'} ${i + 1}`);
    expect(seen).toEqual(wanted);
  });

  it('D6 runs what is sent once, and answers a repeated number the same', async () => {
    let handled = 0;
    const node = await start({
      application: {
        handle: (_connection, data, call) => {
          handled++;
          call.answer({ data, handled });
          return true;
        },
      },
    });
    const peer = await PollingPeer.connect(at(node));
    const frames = [
      { id: 1, event: 'echo', data: 'x' },
      { id: 2, event: '$publish', data: { channel: 'chat.a', event: 'said', data: 1 } },
    ];
    const answers = await peer.send(...frames);
    expect(answers).toEqual([
      { id: 1, data: { data: 'x', handled: 1 } },
      { id: 2, data: { position: expect.stringMatching(/-1-/) } },
    ]);
    expect(await peer.repeat(1, ...frames)).toEqual(answers);
    expect(handled).toBe(1);
    await expect(peer.repeat(1, { event: 'other' })).rejects.toMatchObject({ reply: { status: 422 } });
    await expect(peer.repeat(3, ...frames)).rejects.toMatchObject({
      reply: { status: 409, body: { error: { code: 'send_sequence', details: { expected: 2 } } } },
    });
  });

  it('D3, W2 subscribes by /send: the waiting poll follows at once, and leaves at once', async () => {
    const broker = memoryBroker();
    const [one, two] = [await start({ broker }), await start({ broker })];
    const peer = await PollingPeer.connect(at(one));
    const waiting = peer.begin();
    await one.connected();
    peer.base = at(two);
    const answer = await peer.request('$subscribe', { channel: 'chat.a' });
    expect(answer.data).toEqual({ position: expect.any(String), size: 100, windowMs: 300_000 });
    await two.publish('chat.a', 'said', 1);
    expect(await peer.poll(waiting)).toMatchObject([{ channel: 'chat.a', data: 1 }]);
    expect(await peer.request('$unsubscribe', { channel: 'chat.a' })).toMatchObject({ data: null });
    await two.publish('chat.a', 'said', 2);
    expect(await peer.request('$subscribe', { channel: 'chat.b' })).toMatchObject({ data: { size: 100 } });
    await two.publish('chat.b', 'said', 3);
    expect(await peer.poll()).toMatchObject([{ channel: 'chat.b', data: 3 }]);
  });

  it('W9 supersedes the older of two polls, on another node too', async () => {
    const broker = memoryBroker();
    const [one, two] = [await start({ broker }), await start({ broker })];
    const peer = await PollingPeer.connect(at(one), { channels: { 'chat.a': null } });
    const first = peer.begin();
    await pollWaits(one.hub, peer);
    peer.base = at(two);
    const second = peer.begin();
    expect((await first.reply).body).toEqual({ frames: [], positions: {}, inbox: 0, superseded: true });
    await one.publish('chat.a', 'said', 1);
    expect(await peer.poll(second)).toMatchObject([{ data: 1 }]);
  });

  it('D5.3 sends frames for this peer alone until they are acknowledged', async () => {
    const node = await start();
    const peer = await PollingPeer.connect(at(node));
    const [connection] = await node.connected();
    connection!.emit('hello', 1);
    connection!.send('{"event":"raw"}');
    const lost = peer.begin();
    await lost.reply; // its answer is lost
    expect(await peer.poll()).toEqual([{ event: 'hello', data: 1 }, { event: 'raw' }]);
    connection!.emit('hello', 2);
    expect(await peer.poll()).toEqual([{ event: 'hello', data: 2 }]);
  });

  it('W10 reads channels without a pass, as a GET, and leaves nothing behind', async () => {
    const hooks: string[] = [];
    const node = await start({
      application: {
        connected: async () => void hooks.push('connected'),
        disconnected: async () => void hooks.push('disconnected'),
      },
    });
    await node.publish('chat.a', 'said', 0);
    const url = `${at(node)()}/poll?channels=chat.a,chat.b`;
    const first = await get(url).reply;
    expect([first.status, first.body.frames]).toEqual([200, []]);
    const waiting = get(`${url}&cursor=${encodeURIComponent(first.body.cursor)}`);
    await node.publish('chat.b', 'said', 1);
    const second = await waiting.reply;
    expect(second.body.frames).toMatchObject([{ channel: 'chat.b', data: 1 }]);
    await node.publish('chat.a', 'said', 2);
    const third = await get(`${url}&cursor=${encodeURIComponent(second.body.cursor)}`).reply;
    expect(third.body.frames).toMatchObject([{ channel: 'chat.a', data: 2, offset: 2 }]);
    const bad = await get(`${url}&cursor=nonsense`).reply;
    expect(bad.body).toEqual({ frames: [], cursor: expect.stringMatching(/^1~0:/), ignored: true });
    expect(hooks).toEqual([]);
    expect(node.hub.connections.size).toBe(0);
  });

  it('D4.1 polls a connection by a cursor with its pass', async () => {
    const node = await start();
    const peer = await PollingPeer.connect(at(node), { channels: { 'chat.a': null } });
    await node.publish('chat.a', 'said', 1);
    const first = await get(`${at(node)()}/poll?cursor=1.${peer.pass}~`).reply;
    expect(first.body.frames).toMatchObject([{ data: 1 }]);
    expect(first.body.cursor).toMatch(new RegExp(`^1\\.${peer.pass}~0:`));
    await node.publish('chat.a', 'said', 2);
    const second = await get(`${at(node)()}/poll?cursor=${encodeURIComponent(first.body.cursor)}`).reply;
    expect(second.body.frames).toMatchObject([{ data: 2 }]);
  });

  it('W9 is answered with nothing when its time is over', async () => {
    const { longPolling } = await import('../../../lib/transports/long-polling.transport.js');
    const node = await start({ transports: [longPolling({ holdMs: 30 })] });
    const peer = await PollingPeer.connect(at(node), { channels: { 'chat.a': null } });
    const { status, body } = await peer.begin().reply;
    expect([status, body]).toEqual([200, { frames: [], positions: peer.positions, inbox: 0 }]);
  });

  it('D4.3 finds nothing by a pass that is none', async () => {
    const node = await start();
    const peer = await PollingPeer.connect(at(node));
    const { pass } = peer;
    for (const other of ['', 'x', pass.slice(0, 16) + 'A'.repeat(22), 'A'.repeat(38)]) {
      peer.pass = other;
      const error = await peer.poll().catch((refused: unknown) => refused);
      expect((error as Refused).reply).toMatchObject({ status: 410, body: { error: { code: 'gone' } } });
    }
    peer.pass = pass;
    expect(await peer.request('echo', 1)).toMatchObject({ data: 1 });
  });
});
