import { afterEach, describe, expect, it } from '@jest/globals';
import type { Call } from '../../../lib/hub/call.js';
import { UserIdentity } from '../../../lib/hub/identity.js';
import type { LimitOptions } from '../../../lib/hub/settings.js';
import { Fleet, type FleetOptions } from '../../support/fleet.js';
import { Peer } from './peer.js';

let fleet: Fleet;
/** The calls that were given to handlers, which do nothing of their own. */
let calls: Call[];

const channels = { 'chat.:room': { publish: true, presence: true } };
const tooMany = {
  code: 'rate_limited',
  message: 'Too many frames are being served',
  retryAfterMs: 1_000,
};

async function open(limits: LimitOptions, options: FleetOptions = {}): Promise<Peer> {
  calls = [];
  fleet = await Fleet.open({
    nodes: 1,
    channels,
    limits,
    ...options,
    application: { handle: (_connection, _data, call) => calls.push(call) > 0, ...options.application },
  });
  const peer = new Peer(fleet, { user: new UserIdentity('ann') });
  await fleet.settle();
  peer.frames.length = 0;
  return peer;
}

afterEach(() => fleet.close());

/** What a peer is answered, by its id. */
async function ask(peer: Peer, id: number, event: string, data?: unknown): Promise<unknown> {
  peer.ask(id, event, data);
  await fleet.settle();
  return peer.answers(id)[0];
}

describe('maxFramesInFlight', () => {
  it('bounds the handlers that run: a frame more is told when to come back, with and without id', async () => {
    const peer = await open({ maxFramesInFlight: 2 });
    await ask(peer, 1, 'slow');
    await ask(peer, 2, 'slow');
    expect(await ask(peer, 3, 'slow')).toEqual({ id: 3, error: tooMany });
    peer.link.send({ event: 'slow' });
    await fleet.settle();
    expect(peer.frames.at(-1)).toEqual({ event: 'exception', data: { status: 'error', ...tooMany } });
    expect(await ask(peer, 4, 'unknown')).toEqual({ id: 4, error: tooMany });
    expect(calls).toHaveLength(2);
    calls[0]!.answer('a');
    calls[0]!.handled();
    await ask(peer, 5, 'slow');
    expect(calls).toHaveLength(3);
    expect(peer.close).toBeUndefined();
  });

  it('is 256, and false turns it off', async () => {
    for (const [limits, served] of [
      [{}, 256],
      [{ maxFramesInFlight: false }, 300],
    ] as const) {
      const peer = await open({ framesPerSecond: false, ...limits });
      for (let id = 1; id <= 300; id++) peer.ask(id, 'slow');
      await fleet.settle();
      expect(calls).toHaveLength(served);
    }
  });

  it('is of each connection', async () => {
    const peer = await open({ maxFramesInFlight: 1 });
    const other = new Peer(fleet);
    await ask(peer, 1, 'slow');
    await ask(other, 1, 'slow');
    expect(calls).toHaveLength(2);
  });

  it.each<[event: string, data: object]>([
    ['$subscribe', { channel: 'chat.a' }],
    ['$history', { channel: 'chat.a' }],
    ['$presence', { channel: 'chat.a' }],
    ['$publish', { channel: 'chat.a', event: 'm' }],
    ['$resume', { client: 'c', channels: { 'chat.a': null } }],
  ])('bounds %s, while its hook runs and no longer', async (event, data) => {
    let release: (() => void) | undefined;
    const hook = (): Promise<undefined> => new Promise((resolve) => (release = () => resolve(undefined)));
    const application = { subscribing: hook, publishing: hook };
    const peer = await open({ maxFramesInFlight: 1 }, { application });
    expect(await ask(peer, 1, event, data)).toBeUndefined();
    expect(await ask(peer, 2, '$unsubscribe', { channel: 'chat.b' })).toEqual({ id: 2, error: tooMany });
    release!();
    await fleet.settle();
    expect(await ask(peer, 3, '$unsubscribe', { channel: 'chat.b' })).toEqual({ id: 3, data: null });
    expect(peer.answers(1)).toMatchObject([{ data: event === '$publish' ? null : {} }]);
  });

  it('counts what was refused no longer than its refusal takes', async () => {
    const peer = await open(
      { maxFramesInFlight: 1 },
      { application: { handle: (_connection, _data, call) => call.event !== 'none' && calls.push(call) > 0 } },
    );
    for (const [event, data] of [
      ['none', 0],
      ['$none', 0],
      ['$subscribe', 0],
      ['$subscribe', { channel: 'undeclared' }],
      ['$cancel', 0],
    ] as const) {
      expect(await ask(peer, 1, event, data)).toMatchObject({ error: {} });
      peer.link.send({ event, data });
      await fleet.settle();
    }
    await ask(peer, 2, 'slow');
    expect(calls).toHaveLength(1);
  });

  it('counts a stream while it runs; $cancel is served in any case, and makes room', async () => {
    const peer = await open({ maxFramesInFlight: 2 });
    let stopped = 0;
    for (const id of [1, 2]) {
      peer.ask(id, 'ticks');
      await fleet.settle();
      calls[id - 1]!.stream(() => stopped++);
      calls[id - 1]!.next(id);
    }
    expect(await ask(peer, 3, 'ticks')).toEqual({ id: 3, error: tooMany });
    peer.ask(4, '$cancel', { id: 1 });
    peer.ask(5, '$cancel', { id: 7 });
    peer.ask(6, 'ticks');
    await fleet.settle();
    expect(peer.answers(1).at(-1)).toEqual({ id: 1, done: true });
    expect([...peer.answers(4), ...peer.answers(5)]).toEqual([
      { id: 4, data: null },
      { id: 5, data: null },
    ]);
    expect(stopped).toBe(1);
    expect(calls).toHaveLength(3);
    calls[1]!.done();
    calls[1]!.handled();
    await ask(peer, 7, 'ticks');
    expect(calls).toHaveLength(4);
  });

  it('counts what has its answer while it runs, and ends it with the connection', async () => {
    const peer = await open({ maxFramesInFlight: 1 });
    await ask(peer, 1, 'ticks');
    let stopped = 0;
    calls[0]!.answer('taken');
    calls[0]!.stream(() => stopped++);
    expect(await ask(peer, 2, 'ticks')).toEqual({ id: 2, error: tooMany });
    peer.link.cut();
    await fleet.settle();
    expect(stopped).toBe(1);
  });

  it('counts frames without id while their handlers run', async () => {
    const peer = await open({ maxFramesInFlight: 1 });
    peer.link.send({ event: 'slow' });
    expect(await ask(peer, 1, 'slow')).toEqual({ id: 1, error: tooMany });
    calls[0]!.handled();
    await ask(peer, 2, 'slow');
    expect(calls).toHaveLength(2);
  });

  it('counts a request whose handler has ended without an answer, until that comes or the peer cancels it', async () => {
    const peer = await open({ maxFramesInFlight: 2 });
    for (const id of [1, 2]) {
      await ask(peer, id, 'acknowledge');
      calls[id - 1]!.handled();
    }
    expect(await ask(peer, 3, 'slow')).toEqual({ id: 3, error: tooMany });
    calls[0]!.answer('late');
    await ask(peer, 4, '$cancel', { id: 2 });
    expect([...peer.answers(1), ...peer.answers(2)]).toEqual([
      { id: 1, data: 'late' },
      { id: 2, done: true },
    ]);
    for (const id of [5, 6]) await ask(peer, id, 'slow');
    expect(calls).toHaveLength(4);
  });

  it('leaves a place for $auth, of which one is served at once', async () => {
    const settle: (() => void)[] = [];
    const authenticate = (): Promise<UserIdentity> =>
      new Promise((resolve) => settle.push(() => resolve(new UserIdentity('ann'))));
    const peer = await open({ maxFramesInFlight: 1 }, { auth: { authenticate } });
    await ask(peer, 1, 'slow');
    expect(await ask(peer, 2, '$auth', { token: 'ann' })).toBeUndefined();
    expect(await ask(peer, 3, '$auth', { token: 'ann' })).toEqual({ id: 3, error: tooMany });
    settle.forEach((resolve) => resolve());
    await fleet.settle();
    expect(peer.answers(2)).toEqual([{ id: 2, data: { user: { id: 'ann' } } }]);
  });

  it('bounds what was held while connection hooks ran', async () => {
    let release: (() => void) | undefined;
    await open(
      { maxFramesInFlight: 2 },
      {
        application: { connected: () => new Promise((resolve) => (release = resolve)) },
      },
    );
    const peer = new Peer(fleet);
    for (let id = 1; id <= 4; id++) peer.ask(id, 'slow');
    await fleet.settle();
    release!();
    await fleet.settle();
    expect(calls).toHaveLength(2);
    expect([...peer.answers(3), ...peer.answers(4)]).toEqual([
      { id: 3, error: tooMany },
      { id: 4, error: tooMany },
    ]);
  });
});

describe('a stream', () => {
  it('stops where its peer has gone before it began', async () => {
    const peer = await open({});
    peer.ask(1, 'ticks');
    peer.link.cut();
    await fleet.settle();
    let stopped = 0;
    calls[0]!.stream(() => stopped++);
    expect(stopped).toBe(1);
    expect(peer.link.connection.framesInFlight).toBe(0);
  });

  it('stops where JSON cannot hold a value of it', async () => {
    const peer = await open({});
    await ask(peer, 1, 'ticks');
    await ask(peer, 2, 'ticks');
    let stopped = 0;
    calls[0]!.stream(() => stopped++);
    calls[0]!.next(1n);
    calls[1]!.next(1n);
    calls[1]!.stream(() => stopped++);
    await fleet.settle();
    expect(stopped).toBe(2);
    expect([...peer.answers(1), ...peer.answers(2)]).toMatchObject([
      { id: 1, error: { code: 'internal' } },
      { id: 2, error: { code: 'internal' } },
    ]);
    expect(peer.link.connection.framesInFlight).toBe(0);
  });
});
