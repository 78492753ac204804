import { afterEach, describe, expect, it } from '@jest/globals';
import { Fleet, type FleetOptions } from '../../support/fleet.js';
import type { ReceivedFrame } from '../../support/test-link.js';
import { Peer } from './peer.js';

let fleet: Fleet;

async function open(options: FleetOptions = {}): Promise<Peer> {
  fleet = await Fleet.open({
    nodes: 1,
    channels: { 'chat.:room': { publish: true } },
    application: {
      handle(_connection, data, call) {
        call.answer(data);
        call.handled();
        return true;
      },
    },
    ...options,
  });
  const peer = new Peer(fleet);
  await fleet.settle();
  peer.frames.length = 0;
  return peer;
}

afterEach(() => fleet.close());

/** Sends requests with ids from 1 on, all at one time; the answers, by what became of them. */
async function ask(peer: Peer, count: number): Promise<{ served: number; refused: ReceivedFrame[] }> {
  for (let id = 1; id <= count; id++) peer.ask(id, 'echo', id);
  await fleet.settle();
  const answers = peer.frames.splice(0);
  const refused = answers.filter(({ error }) => error !== undefined);
  return { served: answers.length - refused.length, refused };
}

const disconnected = { event: '$disconnect', data: { code: 4529, reason: 'rate_limited', reconnect: true } };

describe('framesPerSecond', () => {
  it('lets twice as many through at once, and answers each frame more by its id with the time to wait', async () => {
    const peer = await open();
    const { served, refused } = await ask(peer, 203);
    expect(served).toBe(200);
    const error = { code: 'rate_limited', message: 'Too many frames', retryAfterMs: 10 };
    expect(refused).toEqual([201, 202, 203].map((id) => ({ id, error })));
  });

  it('lets as many through a second as it says, as time passes', async () => {
    const peer = await open();
    expect((await ask(peer, 200)).served).toBe(200);
    fleet.clock.advance(9);
    expect(await ask(peer, 1)).toMatchObject({ served: 0, refused: [{ error: { retryAfterMs: 1 } }] });
    fleet.clock.advance(1);
    expect(await ask(peer, 2)).toMatchObject({ served: 1, refused: [{ error: { retryAfterMs: 10 } }] });
    fleet.clock.advance(1_000);
    expect((await ask(peer, 130)).served).toBe(100);
    fleet.clock.advance(60_000);
    expect((await ask(peer, 250)).served).toBe(200);
  });

  it.each([1, 3, 7, 60, 999])('of %i takes exactly twice that at once', async (framesPerSecond) => {
    const peer = await open({ limits: { framesPerSecond } });
    expect((await ask(peer, 3 * framesPerSecond)).served).toBe(2 * framesPerSecond);
  });

  it('closes with 4529 after as many refusals within a second', async () => {
    const peer = await open({ limits: { framesPerSecond: 10 } });
    expect(await ask(peer, 30)).toMatchObject({ served: 20, refused: { length: 10 } });
    expect(peer.close).toBeUndefined();
    peer.ask(31, 'echo');
    await fleet.settle();
    expect(peer.frames).toMatchObject([disconnected]);
    const { delayMs } = peer.frames[0]!.data as { delayMs: number };
    expect(delayMs).toBeGreaterThanOrEqual(2_000);
    expect(delayMs).toBeLessThanOrEqual(4_000);
    expect(peer.close).toEqual([4529, 'rate_limited']);
  });

  it('forgets refusals after a second', async () => {
    const peer = await open({ limits: { framesPerSecond: 10 } });
    await ask(peer, 30);
    for (let second = 0; second < 5; second++) {
      fleet.clock.advance(1_000);
      expect(await ask(peer, 20)).toMatchObject({ served: 10, refused: { length: 10 } });
    }
    expect(peer.close).toBeUndefined();
  });

  it('is debited before a frame is read: what is no frame, $pong and bad UTF-8 count', async () => {
    const peer = await open({ limits: { framesPerSecond: 2 } });
    peer.link.connection.receive('no json');
    peer.link.connection.receive('{"event":"$pong"}');
    peer.link.connection.receiveBad(1);
    peer.ask(1, 'echo', 'served');
    peer.link.connection.receive('no json');
    peer.link.connection.receiveBad(1);
    await fleet.settle();
    const codes = peer.frames.map(({ data }) => (data as { code?: string }).code ?? data);
    expect(codes).toEqual(['bad_frame', 'bad_frame', 'served', 'rate_limited', 'rate_limited']);
    expect(peer.frames.at(-1)).toEqual({
      event: 'exception',
      data: { status: 'error', code: 'rate_limited', message: 'Too many frames', retryAfterMs: 500 },
    });
  });

  it('keeps frames over it from handlers and from listeners', async () => {
    let handled = 0;
    const peer = await open({
      limits: { framesPerSecond: 5 },
      application: { handle: () => ++handled > 0 },
    });
    let heard = 0;
    peer.link.connection.on('message', () => heard++);
    for (let id = 1; id <= 15; id++) peer.ask(id, 'echo');
    await fleet.settle();
    expect([handled, heard]).toEqual([10, 10]);
  });

  it('finds the id of a large frame at its beginning, and closes where it is not to be found', async () => {
    const peer = await open({ limits: { framesPerSecond: 1 } });
    await ask(peer, 2);
    const data = 'x'.repeat(5_000);
    peer.link.send({ id: 'first', event: 'echo', data });
    await fleet.settle();
    expect(peer.frames.splice(0)).toMatchObject([{ id: 'first', error: { code: 'rate_limited' } }]);
    fleet.clock.advance(900);
    peer.link.send({ event: 'echo', data, id: 'last' });
    await fleet.settle();
    expect(peer.frames).toMatchObject([disconnected]);
  });

  it('counts a $resume by its channels, 16 as one frame, and takes it however many they are', async () => {
    const channels = (count: number): object =>
      Object.fromEntries(Array.from({ length: count }, (_, i) => [`chat.${i}`, null]));
    const peer = await open({ limits: { framesPerSecond: 10 } });
    peer.ask(0, '$resume', { client: 'c', channels: channels(128) });
    await fleet.settle();
    peer.frames.length = 0;
    expect((await ask(peer, 14)).served).toBe(12);
    const other = await open({ limits: { framesPerSecond: 1 } });
    other.ask(9, '$resume', { client: 'c', channels: channels(128) });
    await fleet.settle();
    expect(other.answers(9)).toMatchObject([{ data: { connection: expect.any(String) } }]);
    other.frames.length = 0;
    expect((await ask(other, 1)).served).toBe(0);
    fleet.clock.advance(1_000);
    expect((await ask(other, 1)).served).toBe(1);
  });

  it('holds for a peer whose token is awaited, and while connection hooks run', async () => {
    for (const awaitsToken of [true, false]) {
      await open({ limits: { framesPerSecond: 1 }, application: { connected: () => new Promise(() => undefined) } });
      const stranger = new Peer(fleet, { awaitsToken });
      for (let id = 1; id <= 3; id++) stranger.ask(id, 'echo');
      await fleet.settle();
      expect(stranger.answers(3)).toMatchObject([{ error: { code: 'rate_limited' } }]);
      stranger.ask(4, 'echo');
      await fleet.settle();
      expect(stranger.close).toEqual([4529, 'rate_limited']);
    }
  });

  it('survives a clock that is set back', async () => {
    const peer = await open();
    await ask(peer, 200);
    const { now } = fleet.clock;
    fleet.clock.now = () => now.call(fleet.clock) - 86_400_000;
    expect((await ask(peer, 1)).refused).toMatchObject([{ error: { retryAfterMs: 10 } }]);
    fleet.clock.advance(10);
    expect((await ask(peer, 1)).served).toBe(1);
  });

  it('that is off lets everything through', async () => {
    const peer = await open({ limits: { framesPerSecond: false } });
    expect(await ask(peer, 5_000)).toEqual({ served: 5_000, refused: [] });
  });

  it('is one connection’s own', async () => {
    const peer = await open();
    await ask(peer, 250);
    const neighbour = new Peer(fleet);
    await fleet.settle();
    neighbour.frames.length = 0;
    expect((await ask(neighbour, 200)).served).toBe(200);
  });
});
