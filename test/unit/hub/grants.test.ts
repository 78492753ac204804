import { afterEach, describe, expect, it } from '@jest/globals';
import type { Application } from '../../../lib/hub/application.js';
import { Grants, sameAuthority } from '../../../lib/hub/grants.js';
import { UserIdentity } from '../../../lib/hub/identity.js';
import type { Authenticator } from '../../../lib/hub/ports/authenticator.js';
import { RealtimeException } from '../../../lib/protocol/errors.js';
import { Fleet } from '../../support/fleet.js';
import { Peer } from './peer.js';

describe('Grants', () => {
  it.each<[entries: unknown[], granted: string[], refused: string[]]>([
    [['news'], ['news'], ['new', 'news.a', 'NEWS', '']],
    [['chat.:room'], ['chat.a', 'chat.a:b'], ['chat', 'chat.', 'chat.a.b', 'talk.a']],
    [
      [':a.:b', 'x'],
      ['p.q', 'x'],
      ['p', 'p.q.r', 'p.'],
    ],
    [['chat.:room', 'chat.a.:thread'], ['chat.b', 'chat.a.1'], ['chat.b.1']],
    [['user:5'], ['user:5'], ['user:6', 'user']],
    [
      ['chat.:', 'chat.:a.:a', '*', 'a,b', '', '.', 7, null, {}, ['news'], 'chat.:room-1'],
      ['*', '.'],
      ['chat.a', 'a', 'b', 'news', 'chat.a.a'],
    ],
    [[], [], ['news']],
  ])('of %j grant %j and not %j', (entries, granted, refused) => {
    const grants = new Grants(entries);
    expect([...granted, ...refused].filter((channel) => grants.allow(channel))).toEqual(granted);
  });
});

describe('the authority of two tokens', () => {
  const identity = (claims: Record<string, unknown>, channels?: string[]) =>
    new UserIdentity('ann', claims, 1, channels);

  it('is the same where only their times and ids differ', () => {
    const claims = { role: 'admin', teams: [{ id: 1 }] };
    const older = identity({ ...claims, exp: 1, iat: 1, nbf: 1, jti: 'a' }, ['news']);
    expect(sameAuthority(older, identity({ teams: [{ id: 1 }], role: 'admin', exp: 2, jti: 'b' }, ['news']))).toBe(
      true,
    );
  });

  it.each([
    [identity({ role: 'admin' }), identity({ role: 'user' })],
    [identity({ teams: [{ id: 1 }] }), identity({ teams: [{ id: 2 }] })],
    [identity({}), identity({ role: undefined })],
    [identity({}, ['news']), identity({}, ['news', 'chat.:room'])],
    [identity({}), identity({}, [])],
  ])('is not where anything else does: %#', (a, b) => {
    expect([sameAuthority(a, b), sameAuthority(b, a)]).toEqual([false, false]);
  });
});

let fleet: Fleet;
const channels = { 'chat.:room': { publish: true, presence: true }, news: {} };
/** What the application was asked. */
let asked: string[] = [];

/** A token is the identity's claims and channels, as JSON. */
const auth: Authenticator = {
  authenticate({ token }) {
    const { id = 'ann', channels: granted, ...claims } = JSON.parse(token);
    return Promise.resolve(new UserIdentity(id, claims, undefined, granted));
  },
};

async function open(application: Partial<Application> = {}, maxChannels?: number): Promise<void> {
  asked = [];
  fleet = await Fleet.open({
    nodes: 1,
    channels,
    auth,
    ...(maxChannels === undefined ? {} : { limits: { maxChannels } }),
    application: {
      subscribing: (_connection, { channel }) => Promise.resolve(void asked.push(channel)),
      publishing: (_connection, { channel }, _event, data) => {
        asked.push(channel);
        return Promise.resolve(data);
      },
      ...application,
    },
  });
}

function join(granted?: string[], claims: Record<string, unknown> = {}): Peer {
  return new Peer(fleet, { user: new UserIdentity('ann', claims, undefined, granted) });
}

async function ask(peer: Peer, event: string, data: unknown): Promise<any> {
  const id = ++ask.id;
  peer.ask(id, event, data);
  await fleet.settle();
  const [answer] = peer.answers(id);
  return answer!.error?.code ?? answer!.data;
}
ask.id = 0;

const renew = (peer: Peer, token: object): Promise<any> => ask(peer, '$auth', { token: JSON.stringify(token) });
const ended = (peer: Peer): any[] => peer.frames.filter(({ event }) => event === '$unsubscribed');

afterEach(() => fleet?.close());

describe('grants of an identity', () => {
  it('are needed for whatever names a channel, before the application is asked', async () => {
    await open();
    const peer = join(['chat.a', 'nothing.:declared']);
    for (const [event, data] of [
      ['$subscribe', { channel: 'chat.b' }],
      ['$publish', { channel: 'chat.b', event: 'message', data: 1 }],
      ['$history', { channel: 'chat.b' }],
      ['$presence', { channel: 'chat.b' }],
      ['$subscribe', { channel: 'news' }],
    ] as const) {
      expect(await ask(peer, event, data)).toBe('forbidden');
    }
    expect(asked).toEqual([]);
    expect(await ask(peer, '$subscribe', { channel: 'nothing.here' })).toBe('unknown_channel');
    expect(await ask(peer, '$unsubscribe', { channel: 'chat.b' })).toBeNull();
    expect(await ask(peer, '$subscribe', { channel: 'chat.a' })).toMatchObject({ size: 100 });
    expect(await ask(peer, '$publish', { channel: 'chat.a', event: 'message', data: 1 })).toHaveProperty('position');
    expect(await ask(peer, '$history', { channel: 'chat.a' })).toHaveProperty('publications');
    expect(await ask(peer, '$presence', { channel: 'chat.a' })).toHaveProperty('users');
    expect(asked).toEqual(['chat.a', 'chat.a']);
  });

  it('refuse each channel of $resume for itself', async () => {
    await open();
    const peer = join(['chat.:room']);
    const { channels: answers } = await ask(peer, '$resume', { client: 'c', channels: { 'chat.a': null, news: null } });
    expect(answers).toMatchObject({ 'chat.a': { size: 100 }, news: { error: { code: 'forbidden' } } });
  });

  it('limit and do not allow: the application decides besides', async () => {
    await open({ subscribing: () => Promise.reject(new RealtimeException('rejected')) });
    expect(await ask(join(['news']), '$subscribe', { channel: 'news' })).toBe('rejected');
  });

  it('limit nobody where there are none, and do not bind the application', async () => {
    await open();
    expect(await ask(join(), '$subscribe', { channel: 'news' })).toHaveProperty('position');
    const peer = join([]);
    await fleet.settle();
    await peer.link.connection.subscribe('news');
    expect([...peer.link.connection.channels]).toEqual(['news']);
  });
});

describe('a renewal with other claims', () => {
  it('ends what is not granted any more, and asks guards and hooks about the rest', async () => {
    await open();
    const peer = join(['chat.:room', 'news']);
    for (const channel of ['chat.a', 'chat.b', 'news']) await ask(peer, '$subscribe', { channel });
    asked = [];
    await renew(peer, { channels: ['chat.a', 'news'] });
    const data = { code: 'forbidden', reason: 'The credentials do not grant this channel', resubscribe: false };
    expect(ended(peer)).toEqual([{ channel: 'chat.b', event: '$unsubscribed', data }]);
    expect(asked).toEqual(['chat.a', 'news']);
    expect([...peer.link.connection.channels]).toEqual(['chat.a', 'news']);
    expect(await ask(peer, '$subscribe', { channel: 'chat.b' })).toBe('forbidden');
  });

  it('ends what a guard refuses now, and tells to come back where it could not be asked', async () => {
    await open({
      subscribing: ({ user }, { channel }) => {
        if (user!.claims.role !== 'guest') return Promise.resolve();
        if (channel === 'news') return Promise.reject(new RealtimeException('rejected', 'Members only'));
        return channel === 'chat.a' ? Promise.reject(new Error('no database')) : Promise.resolve();
      },
    });
    const peer = join(undefined, { role: 'member' });
    for (const channel of ['chat.a', 'chat.b', 'news']) await ask(peer, '$subscribe', { channel });
    await renew(peer, { role: 'guest' });
    expect(ended(peer)).toEqual([
      {
        channel: 'chat.a',
        event: '$unsubscribed',
        data: { code: 'internal', reason: 'Internal server error', resubscribe: true },
      },
      {
        channel: 'news',
        event: '$unsubscribed',
        data: { code: 'forbidden', reason: 'Members only', resubscribe: false },
      },
    ]);
    expect([...peer.link.connection.channels]).toEqual(['chat.b']);
  });

  it('is no question where only the times and the id of the token are others', async () => {
    await open();
    const peer = join(['news'], { role: 'member', exp: 1, jti: 'a' });
    await ask(peer, '$subscribe', { channel: 'news' });
    asked = [];
    await renew(peer, { role: 'member', exp: 2, iat: 1, nbf: 1, jti: 'b', channels: ['news'] });
    expect(asked).toEqual([]);
  });

  it('leaves alone what the application subscribed the peer to', async () => {
    await open();
    const peer = join(['chat.:room']);
    await fleet.settle();
    await peer.link.connection.subscribe('news');
    await ask(peer, '$subscribe', { channel: 'chat.a' });
    asked = [];
    await renew(peer, { channels: ['chat.b'] });
    expect([...peer.link.connection.channels]).toEqual(['news']);
    expect(asked).toEqual([]);
  });

  it('asks about eight channels at once', async () => {
    let running = 0;
    let most = 0;
    let settle: (() => void)[] = [];
    let slow = false;
    await open({
      subscribing: () => {
        if (!slow) return Promise.resolve();
        most = Math.max(most, ++running);
        return new Promise((resolve) =>
          settle.push(() => {
            running--;
            resolve(undefined);
          }),
        );
      },
    });
    const peer = join();
    for (let i = 0; i < 20; i++) await ask(peer, '$subscribe', { channel: `chat.${i}` });
    slow = true;
    await renew(peer, { role: 'guest' });
    for (let asked = 0; asked < 20;) {
      expect(settle.length).toBeGreaterThan(0);
      asked += settle.length;
      for (const done of settle.splice(0)) done();
      await fleet.settle();
    }
    expect([most, running, peer.link.connection.channels.size]).toEqual([8, 0, 20]);
    settle = [];
  });

  it('counts for a subscription that was authorised before it, and begins after it', async () => {
    let settle: () => void = () => undefined;
    const roles: unknown[] = [];
    await open({
      subscribing: ({ user }) => {
        roles.push(user!.claims.role);
        if (roles.length > 1) return Promise.reject(new RealtimeException('forbidden'));
        return new Promise((resolve) => (settle = () => resolve(undefined)));
      },
    });
    const peer = join(['chat.:room', 'news'], { role: 'member' });
    peer.ask(1, '$subscribe', { channel: 'chat.a' });
    await fleet.settle();
    await renew(peer, { role: 'guest', channels: ['chat.:room'] });
    settle();
    await fleet.settle();
    expect(roles).toEqual(['member', 'guest']);
    const told = peer.frames.filter(({ id, event }) => id === 1 || event === '$unsubscribed');
    expect(told).toMatchObject([
      { id: 1, data: { size: 100 } },
      { channel: 'chat.a', event: '$unsubscribed' },
    ]);
    expect(peer.link.connection.channels.size).toBe(0);
  });

  it('refuses a subscription that it does not grant any more before it begins', async () => {
    let settle: () => void = () => undefined;
    await open({ subscribing: () => new Promise((resolve) => (settle = () => resolve(undefined))) });
    const peer = join(['chat.:room']);
    peer.ask(1, '$subscribe', { channel: 'chat.a' });
    await fleet.settle();
    await renew(peer, { channels: ['news'] });
    settle();
    await fleet.settle();
    expect(peer.answers(1)).toMatchObject([{ error: { code: 'forbidden' } }]);
    expect(peer.link.connection.channels.size).toBe(0);
  });

  it('gives way to a newer one: what was asked about the older decides nothing', async () => {
    const settle: (() => void)[] = [];
    let slow = false;
    await open({
      subscribing: ({ user }) => {
        const { role } = user!.claims;
        if (!slow) return Promise.resolve();
        return new Promise((resolve, reject) => {
          settle.push(() => (role === 'guest' ? reject(new RealtimeException('forbidden')) : resolve(undefined)));
        });
      },
    });
    const peer = join(undefined, { role: 'member' });
    await ask(peer, '$subscribe', { channel: 'news' });
    slow = true;
    await renew(peer, { role: 'guest' });
    await renew(peer, { role: 'member' });
    expect(settle).toHaveLength(2);
    for (const done of settle) done();
    await fleet.settle();
    expect([...peer.link.connection.channels]).toEqual(['news']);
    expect(ended(peer)).toEqual([]);
  });
});
