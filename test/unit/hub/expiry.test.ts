import { afterEach, describe, expect, it } from '@jest/globals';
import type { Connection } from '../../../lib/hub/connection.js';
import { Expiry } from '../../../lib/hub/expiry.js';
import { UserIdentity } from '../../../lib/hub/identity.js';
import type { Authenticator } from '../../../lib/hub/ports/authenticator.js';
import { Fleet, type FleetOptions } from '../../support/fleet.js';
import { ManualClock } from '../../../lib/testing/manual-clock.js';
import { Peer } from './peer.js';

const SECOND = 1_000;
const DAY = 86_400 * SECOND;
const ENDED = { event: '$disconnect', data: { code: 4401, reason: 'token_expired', reconnect: true } };

let fleet: Fleet | undefined;

/** A token names its user, and how long from now it counts. */
const auth: Authenticator = {
  authenticate({ token }) {
    const [id, ttlMs] = token.split(' ') as [string, string];
    return Promise.resolve(new UserIdentity(id, {}, fleet!.clock.now() + Number(ttlMs)));
  },
};

async function open(options: FleetOptions = {}): Promise<Fleet> {
  const heartbeat = { intervalMs: 10 * DAY }; // nobody answers it here
  return (fleet = await Fleet.open({ nodes: 1, auth, heartbeat, ...options }));
}

function join(ttlMs: number | undefined): Peer {
  const end = ttlMs === undefined ? undefined : fleet!.clock.now() + ttlMs;
  return new Peer(fleet!, { user: new UserIdentity('ann', {}, end) });
}

/** Lets time pass until the peer was told something, and returns how long that took. */
async function until(peer: Peer, event: string): Promise<number> {
  const before = peer.frames.length;
  for (let passed = 0; passed < 120 * SECOND; passed += SECOND / 2) {
    if (peer.frames.slice(before).some((frame) => frame.event === event)) return passed;
    await fleet!.pass(SECOND / 2);
  }
  throw new Error(`${event} was not told within two minutes`);
}

afterEach(async () => {
  await fleet?.close();
  fleet = undefined;
});

describe('credentials that end', () => {
  it('are asked for anew in the last fifth of their time, and end the connection 25 s after it', async () => {
    await open();
    const peer = join(50 * SECOND);
    await fleet!.settle();
    const asked = await until(peer, '$refresh');
    expect(asked).toBeGreaterThanOrEqual(39 * SECOND); // 10 s before, a tenth earlier or later, seen by a sweep a second
    expect(asked).toBeLessThanOrEqual(42.5 * SECOND);
    const ended = asked + (await until(peer, '$disconnect'));
    expect(ended).toBeGreaterThanOrEqual(75 * SECOND);
    expect(ended).toBeLessThanOrEqual(76 * SECOND);
    expect(peer.frames.slice(1)).toEqual([{ event: '$refresh' }, ENDED]);
    expect(peer.close).toEqual([4401, 'token_expired']);
  });

  it('are asked for a minute before they end where they last long', async () => {
    await open();
    const peer = join(3_600 * SECOND);
    await fleet!.pass(3_600 * SECOND - 67 * SECOND, 60 * SECOND);
    expect(peer.frames).toHaveLength(1);
    const asked = await until(peer, '$refresh');
    expect(asked).toBeLessThanOrEqual(14 * SECOND);
  });

  it('are renewed in place by $auth: the connection goes on until the new ones end', async () => {
    await open();
    const peer = join(10 * SECOND);
    await fleet!.settle();
    await until(peer, '$refresh');
    peer.ask(1, '$auth', { token: `ann ${100 * SECOND}` });
    await fleet!.settle();
    const expiresAt = fleet!.clock.now() + 100 * SECOND;
    expect(peer.answers(1)).toEqual([{ id: 1, data: { user: { id: 'ann' }, expiresAt } }]);
    const asked = await until(peer, '$refresh');
    expect(asked).toBeGreaterThanOrEqual(77 * SECOND);
    expect(peer.close).toBeUndefined();
    await fleet!.pass(100 * SECOND + 26 * SECOND - asked);
    expect(peer.close).toEqual([4401, 'token_expired']);
    expect(peer.frames.filter(({ event }) => event === '$refresh')).toHaveLength(2);
  });

  it('of somebody else, or that have ended, renew nothing', async () => {
    await open();
    const peer = join(10 * SECOND);
    await fleet!.settle();
    peer.ask(1, '$auth', { token: `bob ${100 * SECOND}` });
    peer.ask(2, '$auth', { token: `ann ${-SECOND}` });
    await fleet!.settle();
    expect(peer.answers(1)).toMatchObject([{ error: { code: 'forbidden' } }]);
    expect(peer.answers(2)).toMatchObject([{ error: { code: 'token_expired' } }]);
    expect(peer.close).toBeUndefined();
    await fleet!.pass(36 * SECOND);
    expect(peer.close).toEqual([4401, 'token_expired']);
  });

  it('that have ended are refused in the first frame', async () => {
    await open();
    const peer = new Peer(fleet!, { awaitsToken: true });
    peer.ask(1, '$auth', { token: 'ann 0' });
    await fleet!.settle();
    expect(peer.frames).toEqual([ENDED]);
  });

  it('that a guard names count as those of a token', async () => {
    const guard = (ttlMs: number) => ({
      admit: (connection: Connection) => {
        connection.identify(new UserIdentity('ann', {}, fleet!.clock.now() + ttlMs));
        return Promise.resolve();
      },
    });
    await open({ application: guard(-1) });
    const late = new Peer(fleet!, { awaitsToken: true });
    late.ask(1, '$auth', { token: `ann ${DAY}` });
    await fleet!.settle();
    expect(late.frames).toEqual([ENDED]);
    await fleet!.close();
    await open({ application: guard(10 * SECOND) });
    const peer = new Peer(fleet!, { awaitsToken: true });
    peer.ask(1, '$auth', { token: `ann ${DAY}` });
    await fleet!.settle();
    await fleet!.pass(36 * SECOND);
    expect(peer.close).toEqual([4401, 'token_expired']);
  });

  it('are asked for once the connection hooks have run, and end it also while they run', async () => {
    let ended: () => void = () => undefined;
    const hook = new Promise<void>((resolve) => (ended = resolve));
    await open({ application: { connected: () => hook } });
    const peer = join(10 * SECOND);
    const stuck = join(SECOND);
    await fleet!.pass(9.5 * SECOND);
    expect(peer.frames).toEqual([]);
    await fleet!.pass(17 * SECOND);
    expect(stuck.close).toEqual([4401, 'token_expired']);
    ended();
    await fleet!.pass(SECOND);
    expect(peer.frames.map(({ event }) => event)).toEqual(['$connected', '$refresh']);
  });

  it('cost no timer of their own', async () => {
    await open();
    const before = fleet!.clock.waiting;
    for (let i = 0; i < 100; i++) join(3_600 * SECOND + i);
    await fleet!.settle();
    expect(fleet!.clock.waiting).toBe(before);
  });
});

describe('Expiry', () => {
  function connection(expiresAt: number | undefined): Connection & { told: string[] } {
    const told: string[] = [];
    const fake = {
      user: new UserIdentity('ann', {}, expiresAt),
      phase: 'open',
      told,
      deliver: () => told.push('$refresh'),
      asked: () => undefined,
      fail: (code: string) => told.push(code),
    };
    return fake as unknown as Connection & { told: string[] };
  }

  it('holds for ends that no timer could wait for', () => {
    const clock = new ManualClock();
    const expiry = new Expiry(clock);
    const far = connection(clock.now() + 400 * DAY);
    expiry.watch(far);
    clock.advance(400 * DAY - 70 * SECOND);
    expiry.sweep();
    expect(far.told).toEqual([]);
    clock.advance(20 * SECOND);
    expiry.sweep();
    expect(far.told).toEqual(['$refresh']);
    clock.advance(76 * SECOND);
    expiry.sweep();
    expect(far.told).toEqual(['$refresh', 'token_expired']);
  });

  it('does at once what a clock that jumped has passed', () => {
    const clock = new ManualClock();
    const expiry = new Expiry(clock);
    const peer = connection(clock.now() + 3_600 * SECOND);
    expiry.watch(peer);
    clock.advance(DAY);
    expiry.sweep();
    expect(peer.told).toEqual(['token_expired']);
  });

  it.each([undefined, Infinity])('never comes for %s', (end) => {
    const clock = new ManualClock();
    const expiry = new Expiry(clock);
    const peer = connection(end);
    expiry.watch(peer);
    clock.advance(10_000 * DAY);
    expiry.sweep();
    expect(peer.told).toEqual([]);
  });

  it('forgets a connection that is over', () => {
    const clock = new ManualClock();
    const expiry = new Expiry(clock);
    const peer = connection(clock.now() + SECOND);
    expiry.watch(peer);
    expiry.forget(peer);
    clock.advance(DAY);
    expiry.sweep();
    expect(peer.told).toEqual([]);
  });
});
