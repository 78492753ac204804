import { afterEach, describe, expect, it } from '@jest/globals';
import { ConnectedSocket, MessageBody, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { deflateRawSync } from 'node:zlib';
import {
  RealtimeModule,
  RealtimeService,
  sse,
  webSocket,
  type Connection,
  type RealtimeModuleOptions,
} from '../../lib/index.js';
import { connect } from '../e2e/support/gateway-peer.js';
import { platforms, startApp, type Platform } from '../e2e/support/platforms.js';
import { startTarget, type Target } from './support/app.js';
import { MIB, usedBytes } from './support/memory.js';
import { Neighbour } from './support/neighbour.js';
import { clientFrame, RawPeer } from './support/raw-peer.js';

const FRAME_BYTES = 65_536;

let dispose: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of dispose.reverse()) await end();
  dispose = [];
});

async function start(platform: Platform, options?: RealtimeModuleOptions): Promise<Target> {
  const target = await startTarget(platform, options);
  dispose.push(() => target.close());
  return target;
}

async function neighbourOf(target: Target): Promise<Neighbour> {
  const neighbour = await Neighbour.join(target.port, target.app.get(RealtimeService));
  dispose.push(() => neighbour.leave());
  return neighbour;
}

async function raw(target: Target, headers?: string): Promise<RawPeer> {
  const peer = await RawPeer.connect(target.port, headers === undefined ? {} : { headers });
  dispose.push(() => peer.end());
  return peer;
}

/** The pieces of a frame, and whether the last one ends it. */
function fragments(payload: string, size: number, { ends }: { ends: boolean }): Buffer {
  const pieces = payload.match(new RegExp(`.{1,${size}}`, 'gs')) ?? [];
  const frames = pieces.map((piece, i) =>
    clientFrame(piece, { opcode: i === 0 ? 1 : 0, fin: ends && i === pieces.length - 1 }),
  );
  return Buffer.concat(frames);
}

describe.each(platforms)('a fragmented frame on $name', (platform) => {
  const request = (bytes: number): string => {
    const around = '{"id":1,"event":"echo","data":""}';
    return around.replace('""', `"${'x'.repeat(bytes - around.length)}"`);
  };

  it('is served up to the limit, in many small pieces', async () => {
    const peer = await raw(await start(platform));
    let answer: any;
    peer.onFrame = (frame) => (answer = frame);
    await peer.write(fragments(request(FRAME_BYTES), 64, { ends: true }));
    await peer.until(() => answer !== undefined);
    expect(answer).toMatchObject({ id: 1, data: { echoed: expect.stringMatching(/^x{65000,}$/) } });
  });

  it.each([
    ['is larger than the limit as a whole', fragments(request(FRAME_BYTES + 1), 1_000, { ends: true }), 1009],
    ['does not end', fragments('x'.repeat(FRAME_BYTES + 1_000), 1_000, { ends: false }), 1009],
    ['has pieces of one byte, without an end', fragments('x'.repeat(5_000), 1, { ends: false }), 1008],
    [
      'has empty pieces, without an end',
      Buffer.concat([
        clientFrame('{', { fin: false }),
        ...Array(5_000).fill(clientFrame('', { opcode: 0, fin: false })),
      ]),
      1008,
    ],
  ])('ends the connection where it %s', async (_, bytes, code) => {
    const target = await start(platform);
    const neighbour = await neighbourOf(target);
    const peer = await raw(target);
    let told: any;
    peer.onFrame = (frame) => (told = frame);
    await peer.write(bytes);
    await peer.closed;
    expect(peer.closeCode).toBe(code);
    if (code === 1009) expect(told).toMatchObject({ event: '$disconnect', data: { reason: 'frame_too_large' } });
    expect((await neighbour.settle()).missed).toEqual([]);
  });

  it('costs the hub no more than the limit, however many peers begin one', async () => {
    const target = await start(platform);
    const peers = await Promise.all(Array.from({ length: 100 }, () => raw(target)));
    const before = await usedBytes();
    const bytes = fragments('x'.repeat(60_000), 60, { ends: false });
    for (const peer of peers) await peer.write(bytes);
    const neighbour = await neighbourOf(target);
    await neighbour.settle();
    // 60 KB, and what 1,000 pieces cost besides, of which the peers' own side has none.
    expect((await usedBytes()) - before).toBeLessThan(100 * 4 * FRAME_BYTES);
  });
});

describe.each(platforms)('a compressed frame on $name', (platform) => {
  const OFFER = 'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n';
  const bomb = (): Buffer => clientFrame(deflateRawSync(Buffer.alloc(60 * MIB, 0x20)), { reserved: 0x40 });

  it('ends the connection, as nobody agreed to compress', async () => {
    const target = await start(platform);
    const peer = await raw(target, OFFER);
    await peer.write(clientFrame(deflateRawSync('{}'), { reserved: 0x40 }));
    await peer.closed;
    expect(peer.closeCode).toBe(1002);
  });

  it('inflates to the limit and no further, however many peers send one', async () => {
    const target = await start(platform, { transports: [webSocket({ compression: true }), sse()] });
    const neighbour = await neighbourOf(target);
    const frame = bomb();
    const before = await usedBytes();
    let most = 0;
    const sampling = setInterval(() => (most = Math.max(most, process.memoryUsage.rss())), 2);
    dispose.push(() => clearInterval(sampling));
    const resident = process.memoryUsage.rss();
    const peers = await Promise.all(Array.from({ length: 50 }, () => raw(target, OFFER)));
    const reasons: unknown[] = [];
    for (const peer of peers) {
      peer.onFrame = ({ event, data }) => event === '$disconnect' && reasons.push(data?.reason);
      await peer.write(frame);
    }
    await Promise.all(peers.map(({ closed }) => closed));
    expect(reasons).toEqual(Array(50).fill('frame_too_large'));
    expect(most - resident).toBeLessThan(60 * MIB); // one of them alone would inflate to that
    expect((await usedBytes()) - before).toBeLessThan(4 * MIB);
    expect((await neighbour.settle()).missed).toEqual([]);
  });
});

describe.each(platforms)('deep JSON on $name', (platform) => {
  const deep = (open: string, close: string): string => {
    const times = Math.floor((FRAME_BYTES - 200) / (open.length + close.length));
    return open.repeat(times) + '1' + close.repeat(times);
  };

  it.each([
    ['a handler that sends it back', 'echo', (data: string) => data],
    ['a handler that validates', 'order', (data: string) => data],
    ['a publication', '$publish', (data: string) => `{"channel":"open","event":"deep","data":${data}}`],
    ['a subscription', '$subscribe', (data: string) => `{"channel":${data}}`],
    ['a token', '$auth', (data: string) => `{"token":${data}}`],
    ['a resume', '$resume', (data: string) => `{"client":"c","channels":{"chat.a":${data}}}`],
    ['a cancel', '$cancel', (data: string) => `{"id":${data}}`],
  ])('as the data of %s is answered bad_frame, and harms nobody', async (_, event, around) => {
    const target = await start(platform);
    const neighbour = await neighbourOf(target);
    const peer = await raw(target);
    const answers: unknown[] = [];
    peer.onFrame = ({ id, error }) => id !== undefined && answers.push([id, error?.code]);
    let asked = 0;
    for (const data of [deep('[', ']'), deep('{"a":', '}'), deep('[[{"a":', '}]]')]) {
      await peer.write(clientFrame(`{"id":${++asked},"event":"${event}","data":${around(data)}}`));
    }
    await peer.until(() => answers.length === asked);
    expect(answers).toEqual([1, 2, 3].map((id) => [id, 'bad_frame']));
    expect((await peer.ask('after', 'echo', 1)).data).toEqual({ echoed: 1 });
    expect((await neighbour.settle()).missed).toEqual([]);
  });

  it('without an end is no frame', async () => {
    const peer = await raw(await start(platform));
    const told: unknown[] = [];
    peer.onFrame = ({ data }) => told.push(data?.code);
    await peer.write(clientFrame('['.repeat(FRAME_BYTES)));
    await peer.write(clientFrame('{"a":'.repeat(FRAME_BYTES / 5)));
    await peer.until(() => told.length === 2);
    expect(told).toEqual(['bad_frame', 'bad_frame']);
  });
});

/** Tells what it was given, as an application sees it. */
@WebSocketGateway({ path: '/keys/:name' })
class KeysGateway {
  @SubscribeMessage('keys')
  keys(@MessageBody() data: Record<string, unknown>, @ConnectedSocket() client: Connection): unknown {
    return {
      own: Object.keys(data),
      inherited: data.polluted ?? 'nothing',
      plain: Object.getPrototypeOf(data) === Object.prototype,
      params: { ...client.params },
      query: Object.entries(client.query),
      header: client.headers.constructor ?? 'none',
    };
  }
}

describe.each(platforms)('prototype keys on $name', (platform) => {
  const POISON = '{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}';

  it('are plain data to handlers, in frames, paths, queries and headers', async () => {
    const app = await startApp(platform, { imports: [RealtimeModule.forRoot()], providers: [KeysGateway] });
    dispose.push(() => app.close());
    const headers = { constructor: 'x', ['__proto__']: 'y' };
    const peer = await connect(app, '/keys/__proto__?__proto__=1&constructor=2', { headers });
    peer.send(`{"id":1,"event":"keys","data":${POISON}}`);
    expect(await peer.next()).toEqual({
      id: 1,
      data: {
        own: ['__proto__', 'constructor'],
        inherited: 'nothing',
        plain: true,
        params: { name: '__proto__' },
        query: expect.arrayContaining([
          ['__proto__', '1'],
          ['constructor', '2'],
        ]),
        header: 'x',
      },
    });
    await peer.close();
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  });

  it('are no keys of the hub: as channels, clients, ids, events, keys and members', async () => {
    const target = await start(platform, {
      channels: { ':name': { presence: true, publish: true, history: { size: 10, ttlMs: 60_000 } } },
    });
    const realtime = target.app.get(RealtimeService);
    for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty']) {
      const peer = await raw(target);
      const heard: any[] = [];
      peer.onFrame = (frame) => heard.push(frame);
      const resume = `{"id":"${name}","event":"$resume","data":{"client":"${name}","channels":{"${name}":null}}}`;
      await peer.write(clientFrame(resume));
      await peer.until(() => heard.some(({ id }) => id === name));
      const answer = heard.find(({ id }) => id === name);
      expect(Object.keys(answer.data.channels)).toEqual([name]);
      expect(Object.getOwnPropertyDescriptor(answer.data.channels, name)!.value).toMatchObject({ size: 10 });
      const data = JSON.parse(POISON);
      expect(await peer.ask(1, '$publish', { channel: name, event: name, data, key: name })).toMatchObject({ id: 1 });
      await peer.until(() => heard.some(({ offset }) => offset === 1));
      const published = heard.find(({ offset }) => offset === 1);
      expect(published).toMatchObject({ channel: name, event: name });
      expect(Object.keys(published.data)).toEqual(['__proto__', 'constructor']);
      expect((await peer.ask(2, '$presence', { channel: name })).data.users).toMatchObject([{ id: name }]);
      expect(await peer.ask(3, name)).toMatchObject({ error: { code: 'unknown_event' } });
      expect((await realtime.history(name)).publications).toHaveLength(1);
    }
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
    expect(target.logger.lines).toEqual([]);
  });
});

describe.each(platforms)('ten thousand subscriptions on $name', (platform) => {
  it('are answered: as many as a connection may have begin, the others are refused before any hook', async () => {
    const target = await start(platform, { channels: { 'free.:n': {} } });
    const neighbour = await neighbourOf(target);
    const peer = await raw(target);
    const answers: any[] = [];
    peer.onFrame = (frame) => frame.id !== undefined && answers.push(frame);
    for (let n = 0; n < 10_000; n += 100) {
      const frames = Array.from({ length: 100 }, (_, i) =>
        clientFrame(`{"id":${n + i},"event":"$subscribe","data":{"channel":"free.${n + i}"}}`),
      );
      await peer.write(Buffer.concat(frames));
    }
    await peer.until(() => answers.length === 10_000);
    // Those that come while as many are being served as may be are refused for that.
    const refused = answers.filter(({ error }) => ['too_many_channels', 'rate_limited'].includes(error?.code));
    expect([answers.length - refused.length, refused.length]).toEqual([128, 9_872]);
    expect(refused.filter(({ error }) => error.code === 'too_many_channels').length).toBeGreaterThan(0);
    const [own] = (await target.app.get(RealtimeService).connections({ channel: 'free.0' })) as unknown as {
      channels: string[];
    }[];
    expect(own!.channels).toHaveLength(128);
    expect((await neighbour.settle()).missed).toEqual([]);
  });

  it('of one $resume are refused but for as many as a connection may have', async () => {
    const peer = await raw(await start(platform, { channels: { ':n': {} } }));
    const channels = Object.fromEntries(Array.from({ length: 5_000 }, (_, n) => [n.toString(36), null]));
    const { data } = await peer.ask(1, '$resume', { client: 'c', channels });
    const answers: any[] = Object.values(data.channels);
    expect(answers).toHaveLength(5_000);
    expect(answers.filter(({ error }) => error?.code === 'too_many_channels')).toHaveLength(5_000 - 128);
  });

  it('begin where the limit is off, and are gone with their connection', async () => {
    const target = await start(platform, {
      channels: { 'free.:n': {} },
      limits: { maxChannels: false, maxFramesInFlight: false },
    });
    const peer = await raw(target);
    let answers = 0;
    peer.onFrame = ({ data }) => data?.position !== undefined && answers++;
    for (let n = 0; n < 10_000; n++) {
      await peer.write(clientFrame(`{"id":${n},"event":"$subscribe","data":{"channel":"free.${n}"}}`));
    }
    await peer.until(() => answers === 10_000);
    const realtime = target.app.get(RealtimeService);
    expect(await realtime.connections({ channel: 'free.9999' })).toHaveLength(1);
    await peer.end();
    const neighbour = await neighbourOf(target);
    await neighbour.settle();
    expect(await realtime.connections({ channel: 'free.9999' })).toEqual([]);
  });
});
