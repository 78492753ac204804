import { afterEach, describe, expect, it } from '@jest/globals';
import { RealtimeService, type RealtimeModuleOptions } from '../../lib/index.js';
import { platforms, type Platform } from '../e2e/support/platforms.js';
import { tokenOf, tokenUsers } from '../e2e/support/token-users.js';
import { RawWire } from '../unit/transports/support/wire.js';
import { startTarget, type Target } from './support/app.js';
import { impatientPlatforms } from './support/impatient-platforms.js';
import { Neighbour } from './support/neighbour.js';
import { clientFrame, RawPeer } from './support/raw-peer.js';

const UPGRADE =
  'GET /realtime HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
  'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n';

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

/** A connection that sends a little all the time, and never comes to an end. */
async function dribble(port: number, first: string | Buffer, more: string | Buffer, everyMs = 10): Promise<RawWire> {
  const wire = await RawWire.open(port);
  wire.socket.write(first);
  const timer = setInterval(() => wire.socket.write(more), everyMs);
  void wire.ended.then(() => clearInterval(timer));
  dispose.push(() => void wire.socket.destroy());
  return wire;
}

describe.each(impatientPlatforms)('a request that does not end, on $name', (platform) => {
  it.each([
    ['the head of an upgrade', UPGRADE],
    ['the head of a stream', 'GET /realtime/sse?channels=open HTTP/1.1\r\nHost: x\r\n'],
  ])('is given up by the server, and never reaches the hub: %s', async (_, head) => {
    const target = await start(platform);
    const neighbour = await Neighbour.join(target.port, target.app.get(RealtimeService));
    dispose.push(() => neighbour.leave());
    const slow = await Promise.all(Array.from({ length: 50 }, () => dribble(target.port, head, 'X-Slow: 1\r\n')));
    await Promise.all(slow.map(({ ended }) => ended));
    for (const { text } of slow) expect(text).toMatch(/^(HTTP\/1\.1 408 |$)/);
    expect(await target.app.get(RealtimeService).connections()).toHaveLength(1);
    expect((await neighbour.settle()).missed).toEqual([]);
    expect(target.logger.lines).toEqual([]);
  });

  it('has its answer, and its connection closed, before its body has come', async () => {
    const { port } = await start(platform);
    const path = '/realtime/sse?channels=open';
    for (const length of ['Content-Length: 1000000', 'Transfer-Encoding: chunked']) {
      const wire = await dribble(port, `PUT ${path} HTTP/1.1\r\nHost: x\r\n${length}\r\n\r\n`, '1\r\nx\r\n');
      await wire.ended;
      expect(wire.text).toMatch(/^HTTP\/1\.1 405 .*\r\nConnection: close\r\n/s);
    }
  });

  it('gets a ticket, and its connection closed, before its body has come', async () => {
    const { port } = await start(platform, { auth: tokenUsers });
    const head = `POST /realtime/ticket HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${tokenOf('ada')}\r\n`;
    const wire = await dribble(port, `${head}Transfer-Encoding: chunked\r\n\r\n`, '1\r\nx\r\n');
    await wire.ended;
    expect(wire.text).toMatch(/^HTTP\/1\.1 200 .*\r\nConnection: close\r\n/s);
  });

  it('is refused as an upgrade, and its connection closed, although the peer goes on', async () => {
    const { port } = await start(platform, { auth: { ...tokenUsers, firstFrame: false } });
    const wire = await dribble(port, `${UPGRADE}\r\n`, clientFrame('{"event":"echo"}'));
    await wire.ended;
    expect(wire.text).toMatch(/^HTTP\/1\.1 401 /);
  });
});

describe.each(platforms)('a peer that is slow or gone, on $name', (platform) => {
  it('is ended where it does not answer the question whether it is there', async () => {
    const target = await start(platform, { heartbeat: { intervalMs: 100, timeoutMs: 50 } });
    // Nothing that a peer's kernel takes is a sign of life: as of one whose machine has gone.
    const peers = await Promise.all(Array.from({ length: 20 }, () => RawPeer.connect(target.port)));
    const reasons: unknown[] = [];
    for (const peer of peers) peer.onFrame = ({ event, data }) => event === '$disconnect' && reasons.push(data?.reason);
    await Promise.all(peers.map(({ closed }) => closed));
    expect(reasons).toEqual(Array(20).fill('heartbeat_timeout'));
    expect(await target.app.get(RealtimeService).connections()).toEqual([]);
  });

  it('is ended where its token does not come in time, whatever else it sends', async () => {
    const target = await start(platform, { auth: tokenUsers, limits: { unauthenticatedMs: 1_000 } });
    const slow = await dribble(target.port, `${UPGRADE}\r\n`, clientFrame('{"id":1,"event":"echo"}'));
    await slow.ended;
    expect(slow.text).toContain('"code":"unauthenticated"');
    expect(slow.text).toContain('{"event":"$disconnect","data":{"code":4401,"reason":"unauthenticated"');
    expect(await target.app.get(RealtimeService).connections()).toEqual([]);
  });

  it('is ended where a frame comes in more pieces than such a frame may have', async () => {
    const target = await start(platform, { limits: { maxFrameBytes: 4_096 } });
    const neighbour = await Neighbour.join(target.port, target.app.get(RealtimeService));
    dispose.push(() => neighbour.leave());
    const frame = clientFrame('x'.repeat(4_000));
    const slow = await RawPeer.connect(target.port);
    // Each byte in a segment of its own: a turn of the event loop apart, and without Nagle's algorithm.
    slow.socket.setNoDelay(true);
    for (let at = 0; at < frame.length && !slow.over; at++) {
      slow.socket.write(frame.subarray(at, at + 1));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await slow.closed;
    expect(slow.closeCode).toBe(1008);
    expect((await neighbour.settle()).missed).toEqual([]);
  });
});
