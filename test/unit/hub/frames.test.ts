import { afterEach, describe, expect, it } from '@jest/globals';
import { UserIdentity } from '../../../lib/hub/identity.js';
import type { Authenticator } from '../../../lib/hub/ports/authenticator.js';
import { RealtimeException } from '../../../lib/protocol/errors.js';
import { Fleet, type FleetOptions } from '../../support/fleet.js';
import { Peer } from './peer.js';

let fleet: Fleet;
const channels = { 'chat.:room': { publish: true, history: { size: 1_000, ttlMs: 60_000 } } };

async function open(options: FleetOptions = {}): Promise<Fleet> {
  fleet = await Fleet.open({ nodes: 1, channels, ...options });
  return fleet;
}

afterEach(() => fleet.close());

/** Says who a token belongs to when a test says so. */
function slowAuth(): Authenticator & { settle(): void } {
  let settle: () => void = () => undefined;
  const settled = new Promise<void>((resolve) => (settle = resolve));
  return {
    name: 'slow',
    anonymous: false,
    authenticate: ({ token }) => settled.then(() => new UserIdentity(token)),
    settle: () => settle(),
  };
}

describe('errors', () => {
  it('leave out details that JSON cannot hold', async () => {
    const cyclic: { self?: unknown } = {};
    cyclic.self = cyclic;
    for (const details of [10n, cyclic]) {
      await open({
        application: { subscribing: () => Promise.reject(new RealtimeException('rejected', 'no', details)) },
      });
      const peer = new Peer(fleet);
      peer.ask(1, '$subscribe', { channel: 'chat.a' });
      await fleet.settle();
      expect(peer.answers(1)).toEqual([{ id: 1, error: { code: 'rejected', message: 'no' } }]);
    }
  });

  it('are not logged for data of the wrong shape', async () => {
    await open();
    const peer = new Peer(fleet);
    const odd = { toString: 1, valueOf: 1 };
    peer.ask(1, '$subscribe', { channel: odd });
    peer.ask(2, '$unsubscribe', { channel: odd });
    peer.ask(3, '$publish', { channel: odd, event: 'a' });
    await fleet.settle();
    for (const id of [1, 2, 3]) expect(peer.answers(id)).toMatchObject([{ error: { code: 'invalid' } }]);
    expect(fleet.logged).toEqual([]);
  });
});

describe('a token in the first frame', () => {
  it('of $resume is served before the frames behind it', async () => {
    const auth = slowAuth();
    await open({ auth });
    const peer = new Peer(fleet, { awaitsToken: true });
    peer.ask(1, '$resume', { token: 'ann', client: 'c', channels: { 'chat.a': null } });
    peer.ask(2, '$subscribe', { channel: 'chat.b' });
    await fleet.settle();
    auth.settle();
    await fleet.settle();
    expect(peer.answers(1)).toMatchObject([{ data: { channels: { 'chat.a': { size: 1_000 } } } }]);
    expect(peer.answers(2)).toMatchObject([{ data: { size: 1_000 } }]);
  });

  it('runs no guard and no hook, and keeps nothing, for a peer that is gone before it is known', async () => {
    const auth = slowAuth();
    const called: string[] = [];
    await open({
      auth,
      application: {
        admit: () => Promise.resolve(void called.push('admit')),
        connected: () => Promise.resolve(void called.push('connected')),
        disconnected: () => Promise.resolve(void called.push('disconnected')),
      },
    });
    for (const event of ['$resume', '$auth']) {
      const peer = new Peer(fleet, { awaitsToken: true });
      peer.ask(1, event, { token: 'ann', client: 'c', channels: {} });
      await fleet.settle();
      peer.link.cut();
    }
    await fleet.settle();
    auth.settle();
    await fleet.settle();
    expect(called).toEqual([]);
    expect(fleet.hubs[0]!.connections.size).toBe(0);
  });

  it('closes without coming back where a guard refuses, and with it where the fault is ours', async () => {
    for (const [code, close] of [
      ['rejected', 4403],
      ['internal', 4500],
    ] as const) {
      const auth = slowAuth();
      auth.settle();
      await open({ auth, application: { admit: () => Promise.reject(new RealtimeException(code)) } });
      const peer = new Peer(fleet, { awaitsToken: true });
      peer.ask(1, '$auth', { token: 'ann' });
      await fleet.settle();
      expect(peer.frames).toEqual([
        { event: '$disconnect', data: { code: close, reason: code, reconnect: close === 4500 } },
      ]);
      expect(peer.close).toEqual([close, code]);
    }
  });
});

describe('maxChannels', () => {
  const hooks = (): { asked: string[]; subscribing: () => Promise<undefined> } => {
    const asked: string[] = [];
    return { asked, subscribing: () => Promise.resolve(void asked.push('hook')) };
  };

  it('bounds the hooks of one $resume, and tells which channels are too many', async () => {
    const { asked, subscribing } = hooks();
    await open({ limits: { maxChannels: 4 }, application: { subscribing } });
    const peer = new Peer(fleet);
    const names = Array.from({ length: 100 }, (_, i) => `chat.${i}`);
    peer.ask(1, '$resume', { client: 'c', channels: Object.fromEntries(names.map((name) => [name, null])) });
    await fleet.settle();
    const answer = peer.answers(1)[0]!.data as {
      channels: Record<string, { error?: { code: string }; size?: number }>;
    };
    const told = names.map((name) => answer.channels[name]!.error?.code ?? 'ok');
    expect(told).toEqual(names.map((_, i) => (i < 4 ? 'ok' : 'too_many_channels')));
    expect(asked).toHaveLength(4);
  });

  it('bounds the hooks that run at once', async () => {
    let running = 0;
    await open({
      limits: { maxChannels: 4 },
      application: {
        subscribing: () => {
          running++;
          return new Promise(() => undefined);
        },
      },
    });
    const peer = new Peer(fleet);
    for (let id = 1; id <= 50; id++) peer.ask(id, '$subscribe', { channel: `chat.${id}` });
    await fleet.settle();
    expect(running).toBe(4);
    expect(peer.answers(5)).toMatchObject([{ error: { code: 'too_many_channels' } }]);
  });
});

describe('idempotency keys', () => {
  it('of users never meet, whatever they are called', async () => {
    await open();
    const one = new Peer(fleet, { user: new UserIdentity('org') });
    const other = new Peer(fleet, { user: new UserIdentity('org:7') });
    one.ask(1, '$publish', { channel: 'chat.a', event: 'm', data: 1, key: '7:k' });
    other.ask(1, '$publish', { channel: 'chat.a', event: 'm', data: 2, key: 'k' });
    await fleet.settle();
    const hub = fleet.hubs[0]!;
    const { items } = await hub.history(hub.match('chat.a'), { limit: 10, reverse: false });
    expect(items.map(({ data }) => data)).toEqual(['1', '2']);
  });
});

describe('$history', () => {
  it('is cut to what an answer may hold: the first ones after a position, else the newest', async () => {
    await open();
    const data = 'x'.repeat(50_000);
    const published = Array.from({ length: 20 }, () => fleet.publish(0, 'chat.a', 'm', data));
    await fleet.settle();
    const first = await published[0];
    const peer = new Peer(fleet);
    const ask = async (id: number, rest: object): Promise<number[]> => {
      peer.ask(id, '$history', { channel: 'chat.a', limit: 1_000, ...rest });
      await fleet.settle();
      const { publications } = peer.answers(id)[0]!.data as { publications: { offset: number }[] };
      return publications.map(({ offset }) => offset);
    };
    expect(await ask(1, {})).toEqual([16, 17, 18, 19, 20]);
    expect(await ask(2, { reverse: true })).toEqual([20, 19, 18, 17, 16]);
    expect(await ask(3, { since: first })).toEqual([2, 3, 4, 5, 6]);
  });

  it('holds at least one publication', async () => {
    await open();
    void fleet.publish(0, 'chat.a', 'm', 'x'.repeat(400_000));
    await fleet.settle();
    const peer = new Peer(fleet);
    peer.ask(1, '$history', { channel: 'chat.a' });
    await fleet.settle();
    expect(peer.answers(1)).toMatchObject([{ data: { publications: [{ offset: 1 }] } }]);
  });
});
