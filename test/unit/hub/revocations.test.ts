import { afterEach, describe, expect, it } from '@jest/globals';
import { UserIdentity } from '../../../lib/hub/identity.js';
import { Fleet, type FleetOptions } from '../../support/fleet.js';
import { tokenOf, tokenUsers } from '../../e2e/support/token-users.js';
import { Peer } from './peer.js';

const DAY_MS = 86_400_000;
const REVOKED: Peer['close'] = [4410, 'revoked'];

let fleet: Fleet;

afterEach(() => fleet.close());

async function open(options: FleetOptions = {}): Promise<void> {
  fleet = await Fleet.open({ nodes: 2, channels: { chat: { presence: true } }, auth: tokenUsers, ...options });
}

/** The time of a token, in whole seconds before now. */
const issued = (secondsAgo: number): number => Math.floor(fleet.clock.now() / 1_000) - secondsAgo;

const as = (id: string, claims: Record<string, unknown> = {}, node = 0): Peer =>
  new Peer(fleet, { user: new UserIdentity(id, claims) }, node);

async function revoke(what: { token: string } | { user: string }, until?: number): Promise<unknown> {
  let failure: unknown;
  fleet.hubs[0]!.revocations.revoke(what, until).catch((error: unknown) => (failure = error));
  await fleet.settle();
  return failure;
}

describe('a revoked token', () => {
  it('ends its connections on every node, and no other', async () => {
    await open();
    const peers = [as('ada', { jti: 'k1' }), as('ada', { jti: 'k1' }, 1), as('ada', { jti: 'k2' }), as('bob')];
    await fleet.settle();
    await revoke({ token: 'k1' });
    expect(peers.map(({ close }) => close)).toEqual([REVOKED, REVOKED, undefined, undefined]);
    expect(peers[0]!.frames.at(-1)).toEqual({
      event: '$disconnect',
      data: { code: 4410, reason: 'revoked', reconnect: false },
    });
  });

  it('lets nobody in, on any node, until the revocation ends', async () => {
    await open();
    await revoke({ token: 'k1' }, fleet.clock.now() + 60_000);
    const early = as('ada', { jti: 'k1' }, 1);
    await fleet.settle();
    expect(early.close).toEqual(REVOKED);
    await fleet.pass(60_000, 10_000);
    const late = as('ada', { jti: 'k1' }, 1);
    await fleet.settle();
    expect(late.close).toBeUndefined();
  });

  it('counts for 30 days where nobody says otherwise', async () => {
    await open();
    await revoke({ token: 'k1' });
    expect(await fleet.faults(0).revocations()).toEqual([{ token: 'k1', until: fleet.clock.now() + 30 * DAY_MS }]);
    for (const until of [fleet.clock.now(), -1, NaN, Infinity]) {
      expect(await revoke({ token: 'k2' }, until)).toMatchObject({ code: 'invalid' });
    }
  });

  it('has its members leave at once', async () => {
    await open();
    const ada = as('ada', { jti: 'k1' });
    ada.ask(1, '$subscribe', { channel: 'chat' });
    await fleet.settle();
    await revoke({ token: 'k1' });
    expect(fleet.memory.presence.answer('chat')).toMatchObject({ count: 0 });
  });
});

describe('a revoked user', () => {
  it('loses every token issued up to that second, and those without a time of issue', async () => {
    await open();
    const before = as('ada', { iat: issued(10) });
    const undated = as('ada', {}, 1);
    const bob = as('bob', { iat: issued(10) });
    await fleet.settle();
    await revoke({ user: 'ada' });
    expect([before.close, undated.close, bob.close]).toEqual([REVOKED, REVOKED, undefined]);
    const again = [0, -1].map((age) => as('ada', { iat: issued(age) }, 1));
    const third = as('ada', { iat: 'yesterday' });
    await fleet.settle();
    expect([...again, third].map(({ close }) => close)).toEqual([REVOKED, undefined, REVOKED]);
  });

  it('loses the newer tokens too where that happens again', async () => {
    await open();
    await revoke({ user: 'ada' }, fleet.clock.now() + DAY_MS);
    await fleet.pass(5_000);
    const newer = as('ada', { iat: issued(2) }, 1);
    await fleet.settle();
    expect(newer.close).toBeUndefined();
    await revoke({ user: 'ada' }, fleet.clock.now() + 1_000);
    expect(newer.close).toEqual(REVOKED);
    await fleet.pass(5_000);
    const older = as('ada', { iat: issued(20) }, 1);
    await fleet.settle();
    expect(older.close).toEqual(REVOKED);
  });
});

describe('revocation', () => {
  it('holds for a peer whose guards or hooks still ran', async () => {
    let open_: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => (open_ = resolve));
    await open({ application: { admit: () => gate, connected: () => gate } });
    const hooks = as('ada', { jti: 'k1' });
    const guards = new Peer(fleet, { awaitsToken: true });
    guards.ask(1, '$auth', { token: tokenOf('ada') });
    await fleet.settle();
    await revoke({ token: 'k1' });
    await revoke({ user: 'ada' });
    open_();
    await fleet.settle();
    expect([hooks.close, guards.close]).toEqual([REVOKED, REVOKED]);
  });

  it('holds for tokens in frames: the first ends the connection, a later one is refused', async () => {
    await open();
    const live = as('ada', { iat: issued(-5) });
    await revoke({ user: 'ada' });
    const first = new Peer(fleet, { awaitsToken: true }, 1);
    first.ask(1, '$auth', { token: tokenOf('ada') });
    live.ask(1, '$auth', { token: tokenOf('ada') });
    await fleet.settle();
    expect(first.close).toEqual(REVOKED);
    expect(live.answers(1)).toMatchObject([{ error: { code: 'revoked' } }]);
    expect(live.close).toBeUndefined();
  });

  it('reaches a node that was cut off at its reconnect, and those that arrived there meanwhile', async () => {
    await open();
    const before = as('ada', { jti: 'k1' }, 1);
    await fleet.settle();
    fleet.faults(1).pause();
    await revoke({ token: 'k1' });
    const meanwhile = as('ada', { jti: 'k1' }, 1);
    await fleet.pass(1_000);
    expect([before.close, meanwhile.close]).toEqual([undefined, undefined]);
    fleet.faults(1).resume();
    await fleet.settle();
    expect([before.close, meanwhile.close]).toEqual([REVOKED, REVOKED]);
  });

  it('is read again where its message was lost', async () => {
    await open();
    const peer = as('ada', { jti: 'k1' }, 1);
    await fleet.settle();
    fleet.faults(1).announcements('envelope', 'lose');
    await revoke({ token: 'k1' });
    await fleet.broker.trim('$control');
    await fleet.pass(10_500);
    expect(peer.close).toEqual(REVOKED);
  });

  it('is read again until that succeeds', async () => {
    await open();
    const peer = as('ada', { jti: 'k1' }, 1);
    await fleet.settle();
    await fleet.faults(0).revoke([{ token: 'k1', until: fleet.clock.now() + DAY_MS }]);
    fleet.faults(1).calls('revocations', 'unavailable', 'unavailable');
    fleet.faults(1).resume();
    await fleet.settle();
    expect(peer.close).toBeUndefined();
    await fleet.pass(1_000);
    expect(peer.close).toEqual(REVOKED);
  });

  it('is told again to a broker that has forgotten it, and to a node that never heard of it', async () => {
    await open();
    const peer = as('ada', { jti: 'k1' }, 1);
    const until = fleet.clock.now() + DAY_MS;
    const before = fleet.clock.now();
    await fleet.settle();
    fleet.faults(1).announcements('envelope', 'lose', 'lose');
    await revoke({ token: 'k1' }, until);
    await revoke({ user: 'bob' }, until);
    await fleet.broker.wipe();
    fleet.faults(1).resume();
    await fleet.settle();
    expect(peer.close).toBeUndefined();
    fleet.faults(0).resume();
    await fleet.settle();
    expect(peer.close).toEqual(REVOKED);
    expect(await fleet.faults(1).revocations()).toEqual([
      { token: 'k1', until },
      { user: 'bob', until, before },
    ]);
  });

  it('is not announced where it could not be written, and says so', async () => {
    await open();
    const peer = as('ada', { jti: 'k1' });
    await fleet.settle();
    fleet.faults(0).calls('revoke', 'unavailable', 'unapplied');
    expect(await revoke({ token: 'k1' })).toMatchObject({ code: 'broker_unavailable' });
    expect(await revoke({ token: 'k1' })).toMatchObject({ code: 'outcome_unknown' });
    expect(peer.close).toBeUndefined();
    fleet.faults(0).calls('append', 'unavailable');
    expect(await revoke({ token: 'k1' })).toMatchObject({ code: 'broker_unavailable' });
    fleet.faults(0).resume();
    await fleet.settle();
    expect(peer.close).toEqual(REVOKED);
  });

  it('by a worker counts on the others, and a node that starts later has it', async () => {
    await open({ nodes: 1 });
    const worker = await fleet.addWorker();
    void worker.revocations.revoke({ token: 'k1' });
    await fleet.settle();
    const node = await fleet.addNode();
    const peer = as('ada', { jti: 'k1' }, node);
    await fleet.settle();
    expect(peer.close).toEqual(REVOKED);
  });
});
