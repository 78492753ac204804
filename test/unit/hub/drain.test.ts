import { afterEach, describe, expect, it } from '@jest/globals';
import { Fleet, type FleetOptions } from '../../support/fleet.js';
import { Peer } from './peer.js';

let fleet: Fleet;

async function open(options: FleetOptions = {}): Promise<Fleet> {
  fleet = await Fleet.open({ nodes: 1, channels: { 'chat.:room': {} }, ...options });
  return fleet;
}

afterEach(() => fleet.close());

/** Whether a promise has settled, once everything has happened that can happen now. */
async function settled(promise: Promise<unknown>): Promise<boolean> {
  let done = false;
  const note = (): void => void (done = true);
  promise.then(note, note);
  await fleet.settle();
  return done;
}

const never = (): Promise<never> => new Promise(() => undefined);

describe('drain()', () => {
  it('tells peers to come back and waits for their disconnection hooks', async () => {
    let end: () => void = () => undefined;
    await open({ application: { disconnected: () => new Promise((resolve) => (end = resolve)) } });
    const peer = new Peer(fleet);
    await fleet.settle();
    const drained = fleet.hubs[0]!.drain();
    expect(await settled(drained)).toBe(false);
    expect(peer.frames.at(-1)).toEqual({
      event: '$disconnect',
      data: { code: 4503, reason: 'draining', reconnect: true, delayMs: expect.any(Number) },
    });
    expect(peer.close).toEqual([4503, 'draining']);
    end();
    expect(await settled(drained)).toBe(true);
  });

  it('spreads the return of peers over drain.windowMs', async () => {
    await open({ drain: { windowMs: 5_000 } });
    const peers = Array.from({ length: 10 }, () => new Peer(fleet));
    await fleet.settle();
    expect(await settled(fleet.hubs[0]!.drain())).toBe(true);
    const delays = peers.map(({ frames }) => (frames.at(-1)!.data as { delayMs: number }).delayMs);
    expect(delays.map((delayMs) => Math.floor(delayMs / 500))).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  it('is not ready at once, and lets peers in for drain.readinessMs more', async () => {
    await open({ drain: { readinessMs: 3_000 } });
    const [hub] = fleet.hubs;
    expect(hub!.health.ready).toBe(true);
    const drained = hub!.drain();
    expect(hub!.health.ready).toBe(false);
    await fleet.pass(2_900);
    const peer = new Peer(fleet);
    await fleet.settle();
    expect(peer.frames).toEqual([expect.objectContaining({ event: '$connected' })]);
    expect(hub!.accepting).toBe(true);
    await fleet.pass(100);
    expect(hub!.accepting).toBe(false);
    expect(peer.close).toEqual([4503, 'draining']);
    await drained;
  });

  it('waits for the hooks of subscriptions', async () => {
    let end: () => void = () => undefined;
    await open({ application: { unsubscribed: () => new Promise((resolve) => (end = resolve)) } });
    const peer = new Peer(fleet);
    peer.ask(1, '$subscribe', { channel: 'chat.a' });
    await fleet.settle();
    const drained = fleet.hubs[0]!.drain();
    expect(await settled(drained)).toBe(false);
    end();
    expect(await settled(drained)).toBe(true);
  });

  it.each([
    ['disconnected', { disconnected: never }],
    ['connected', { connected: never }],
    ['unsubscribed', { unsubscribed: never }],
  ])('goes on after drain.timeoutMs where a hook never ends: %s', async (_name, application) => {
    await open({ application, drain: { timeoutMs: 3_000 } });
    const peer = new Peer(fleet);
    peer.ask(1, '$subscribe', { channel: 'chat.a' });
    await fleet.settle();
    const drained = fleet.hubs[0]!.drain();
    await fleet.pass(2_900);
    expect(await settled(drained)).toBe(false);
    await fleet.pass(100);
    expect(await settled(drained)).toBe(true);
    expect(fleet.logged).toMatchObject([{ level: 'warn', message: expect.stringContaining('After 3000 ms') }]);
  });

  it('sends a peer away whose handshake ends as it begins', async () => {
    await open();
    const drained = fleet.hubs[0]!.drain();
    const peer = new Peer(fleet);
    await fleet.settle();
    expect(peer.close).toEqual([4503, 'draining']);
    expect(fleet.hubs[0]!.connections.size).toBe(0);
    await drained;
  });
});

describe('the end of a connection', () => {
  it('runs the disconnection hooks, later, where the connection hook never ends', async () => {
    const gone: string[] = [];
    await open({
      application: {
        connected: never,
        disconnected: ({ id }) => Promise.resolve(void gone.push(id)),
      },
    });
    const { link } = new Peer(fleet);
    await fleet.settle();
    link.cut();
    await fleet.pass(9_000);
    expect(gone).toEqual([]);
    await fleet.pass(1_000);
    expect(gone).toEqual([link.connection.id]);
    expect(fleet.logged).toMatchObject([{ level: 'warn' }]);
  });

  it('closes the link that a guard of the handshake gave up', async () => {
    await open();
    const { hubs } = fleet;
    const join = hubs[0]!.arrive.bind(hubs[0]);
    hubs[0]!.arrive = (arrival) => {
      const connection = join(arrival);
      connection.close(4403, 'banned');
      return connection;
    };
    const peer = new Peer(fleet);
    await fleet.settle();
    expect(peer.close).toEqual([4403, 'banned']);
    expect(hubs[0]!.connections.size).toBe(0);
  });
});
