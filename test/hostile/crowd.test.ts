import { afterEach, describe, expect, it } from '@jest/globals';
import { connect, type Socket } from 'node:net';
import { RealtimeService, type RealtimeModuleOptions } from '../../lib/index.js';
import { platforms, type Platform } from '../e2e/support/platforms.js';
import { reset } from '../../lib/testing/reset.js';
import { RawWire } from '../unit/transports/support/wire.js';
import { startLimitedTarget, startTarget, type Target } from './support/app.js';
import { MIB, usedBytes } from './support/memory.js';
import { Neighbour } from './support/neighbour.js';
import { clientFrame, RawPeer } from './support/raw-peer.js';

const HEALTHY = 500;
const PUBLICATIONS = 160;
const TEXT = 'x'.repeat(100_000);
const OUTBOX_BYTES = MIB;
/** Some ten seconds, where nothing else runs. */
const TIMEOUT_MS = 180_000;

let dispose: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of dispose.reverse()) await end();
  dispose = [];
});

async function start(platform: Platform, options?: RealtimeModuleOptions): Promise<Target> {
  const target = await startTarget(platform, {
    ...options,
    channels: {
      feed: { history: { size: 20, ttlMs: 60_000 } },
      'heavy.strict': { history: { size: 20, ttlMs: 60_000 } },
      'heavy.lossy': { history: { size: 20, ttlMs: 60_000 }, slowConsumer: 'dropOldest' },
    },
  });
  dispose.push(() => target.close());
  return target;
}

async function raw(target: Target): Promise<RawPeer> {
  const peer = await RawPeer.connect(target.port);
  dispose.push(() => peer.end());
  return peer;
}

/** A peer that reads the feed, and notes what it did not get. */
class Reader {
  seen = 0;
  readonly missed: string[] = [];

  private constructor(private readonly peer: RawPeer) {
    peer.onFrame = ({ channel, offset, event }) => {
      if (event === '$disconnect') this.missed.push('disconnected');
      if (channel !== 'feed') return;
      if (offset !== this.seen + 1) this.missed.push(`${String(offset)} after ${this.seen}`);
      this.seen = offset ?? this.seen;
    };
  }

  static async join(target: Target): Promise<Reader> {
    const reader = new Reader(await raw(target));
    await reader.peer.ask('join', '$subscribe', { channel: 'feed' });
    return reader;
  }

  reached(offset: number): Promise<void> {
    return this.peer.until(() => this.seen >= offset);
  }
}

describe.each(platforms)(`beside ${HEALTHY} healthy peers on $name`, (platform) => {
  it(
    'stalled readers cost what they may, a flooding writer is expelled, and the others lose nothing',
    async () => {
      const target = await start(platform, { limits: { framesPerSecond: 100, inlineBytes: false } });
      const realtime = target.app.get(RealtimeService);
      const readers: Reader[] = [];
      for (let i = 0; i < HEALTHY; i += 50) {
        readers.push(...(await Promise.all(Array.from({ length: 50 }, () => Reader.join(target)))));
      }
      const strict = await raw(target);
      const lossy = await raw(target);
      await strict.ask(1, '$subscribe', { channel: 'heavy.strict' });
      await lossy.ask(1, '$subscribe', { channel: 'heavy.lossy' });
      const stream = await RawWire.get(target.port, '/realtime/sse?channels=heavy.strict', {
        Accept: 'text/event-stream',
      });
      dispose.push(() => void stream.socket.destroy());
      await stream.until(({ text }) => text.includes('$open'));
      for (const { socket } of [strict, lossy, stream]) socket.pause();
      const writer = await raw(target);

      const before = await usedBytes();
      let most = 0;
      const burst = Buffer.concat(Array(200).fill(clientFrame('{"id":1,"event":"echo","data":"flood"}')));
      for (let n = 1; n <= PUBLICATIONS; n++) {
        await Promise.all([
          realtime.publish('feed', 'tick', { n }),
          realtime.publish('heavy.strict', 'load', TEXT),
          realtime.publish('heavy.lossy', 'load', TEXT),
        ]);
        if (!writer.over) await writer.write(burst);
        await new Promise((resolve) => setImmediate(resolve));
        if (n % 40 === 0) most = Math.max(most, await usedBytes());
      }
      await Promise.all(readers.map((reader) => reader.reached(PUBLICATIONS)));

      expect(readers.flatMap(({ missed }) => missed)).toEqual([]);
      // The histories, and an outbox for each that reads too slowly; 16 MB were published to each of them.
      const allowed = 3 * OUTBOX_BYTES + 2 * 21 * TEXT.length + 6 * MIB;
      expect(most - before).toBeLessThan(allowed);
      const connections = await realtime.connections();
      expect(connections.filter(({ channels }) => channels.includes('heavy.strict'))).toEqual([]);
      expect(connections.filter(({ channels }) => channels.includes('heavy.lossy'))).toHaveLength(1);
      expect(writer.closeCode).toBe(4529);
      expect(target.logger.lines).toEqual([]);
    },
    TIMEOUT_MS,
  );
});

describe.each(platforms)('a flood of connections on $name', (platform) => {
  const upgrade = (port: number): string =>
    `GET /realtime HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
    'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';

  interface Knock {
    readonly socket: Socket;
    /** What came first; empty where the connection ended without an answer. */
    readonly answer: string;
  }

  /** Connects and sends; resolves when it was answered or the connection is over. */
  function knock(port: number, bytes: string, localAddress = '127.0.0.1'): Promise<Knock> {
    const socket = connect({ port, host: '127.0.0.1', localAddress }, () => socket.write(bytes));
    socket.on('error', () => undefined);
    return new Promise((resolve) => {
      socket.once('data', (data: Buffer) => resolve({ socket, answer: data.toString('latin1') }));
      socket.once('close', () => resolve({ socket, answer: '' }));
    });
  }

  it('leaves nothing behind, and a neighbour is served meanwhile', async () => {
    const target = await start(platform);
    const realtime = target.app.get(RealtimeService);
    const neighbour = await Neighbour.join(target.port, realtime);
    dispose.push(() => neighbour.leave());
    const flood = async (count: number): Promise<void> => {
      for (let done = 0; done < count; done += 200) {
        const sockets = await Promise.all(Array.from({ length: 200 }, () => knock(target.port, upgrade(target.port))));
        neighbour.othersSent(200);
        for (const { socket } of sockets) reset(socket);
      }
      while ((await realtime.connections()).length > 1) await new Promise((resolve) => setImmediate(resolve));
    };
    await flood(1_000);
    const before = await usedBytes();
    await flood(3_000);
    expect((await usedBytes()) - before).toBeLessThan(3 * MIB);
    const { missed, mostBetween } = await neighbour.settle();
    expect(missed).toEqual([]);
    expect(mostBetween).toBeLessThanOrEqual(1_000);
    expect(target.logger.lines).toEqual([]);
  });

  it('is refused past the limits of an address; others come in', async () => {
    const target = await startLimitedTarget(platform);
    dispose.push(() => target.close());
    const before = await usedBytes();
    const sockets: Socket[] = [];
    dispose.push(() => sockets.forEach((socket) => socket.destroy()));
    const statuses = new Map<string, number>();
    for (let done = 0; done < 2_000; done += 200) {
      const knocks = await Promise.all(Array.from({ length: 200 }, () => knock(target.port, upgrade(target.port))));
      for (const { socket, answer } of knocks) {
        sockets.push(socket);
        statuses.set(answer.slice(9, 12), (statuses.get(answer.slice(9, 12)) ?? 0) + 1);
        if (answer.startsWith('HTTP/1.1 429'))
          expect(answer).toMatch(/\r\nretry-after: \d+\r\n.*"code":"(rate_limited|too_many_connections)"/s);
      }
    }
    expect([...statuses.keys()].sort()).toEqual(['101', '429']);
    expect(statuses.get('101')).toBeLessThanOrEqual(1_024);
    const { answer, socket } = await knock(target.port, upgrade(target.port), '127.0.0.2');
    sockets.push(socket);
    expect(answer).toMatch(/^HTTP\/1\.1 101 /);
    for (const gone of sockets) reset(gone);
    const realtime = target.app.get(RealtimeService);
    while ((await realtime.connections()).length > 0) await new Promise((resolve) => setImmediate(resolve));
    expect((await usedBytes()) - before).toBeLessThan(4 * MIB);
    expect(target.logger.lines).toEqual([]);
  });
});
