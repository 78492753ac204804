import { afterEach, describe, expect, it, jest } from '@jest/globals';
import type { Connection } from '../../../lib/hub/connection.js';
import { UserIdentity } from '../../../lib/hub/identity.js';
import type { ConnectionInfo } from '../../../lib/hub/ports/broker.js';
import { Fleet } from '../../support/fleet.js';
import { Peer } from './peer.js';

let fleet: Fleet;
let hooks: string[];
let departed: Connection[];

afterEach(() => fleet.close());

async function open(): Promise<Fleet> {
  hooks = [];
  departed = [];
  fleet = await Fleet.open({
    nodes: 1,
    channels: { 'chat.:room': { presence: true } },
    application: {
      disconnected: (connection) => {
        departed.push(connection);
        return Promise.resolve(void hooks.push(`gone ${connection.closed!.reason}`));
      },
      unsubscribed: (_connection, { channel }, reason) => Promise.resolve(void hooks.push(`${reason} ${channel}`)),
      handle: (_connection, data, call) => {
        call.answer(data);
        call.handled();
        return true;
      },
    },
  });
  return fleet;
}

describe('a claimed connection', () => {
  const info: ConnectionInfo = {
    id: 'c1',
    client: 'device',
    node: 'dead',
    transport: 'websocket',
    userId: 'ann',
    ip: '::1',
    endpoint: '0:/rooms/:id',
    params: { id: '7' },
    openedAt: 1,
    channels: ['chat.a', 'chat.b', 'undeclared'],
  };

  it('has the hooks of its channels and its gateways run, with what the registry knew of it', async () => {
    await open();
    await fleet.hubs[0]!.onClaim({ connection: info, attempt: 1 });
    expect(hooks).toEqual(['disconnected chat.a', 'disconnected chat.b', 'gone lease_lost']);
    const [connection] = departed;
    expect(connection).toMatchObject({
      id: 'c1',
      client: 'device',
      transport: 'websocket',
      user: new UserIdentity('ann'),
      ip: '::1',
      endpoint: '0:/rooms/:id',
      params: { id: '7' },
      headers: {},
      readyState: 3,
      closed: { code: 4504, reason: 'lease_lost' },
    });
    expect(connection!.emit('hello')).toBe(false);
    connection!.close();
    connection!.terminate();
    expect(fleet.hubs[0]!.connections.size).toBe(0);
    expect(hooks).toHaveLength(3);
  });

  it('is left to others by a node that goes away', async () => {
    await open();
    await fleet.hubs[0]!.drain();
    await expect(fleet.hubs[0]!.onClaim({ connection: info, attempt: 1 })).rejects.toMatchObject({ code: 'draining' });
    expect(hooks).toEqual([]);
  });
});

describe('a node that was taken for dead', () => {
  it('ends its connections with lease_lost, runs no hooks for them, and goes on under another id', async () => {
    await open();
    const hub = fleet.hubs[0]!;
    const before = hub.node;
    const peer = new Peer(fleet);
    peer.ask(1, '$subscribe', { channel: 'chat.a' });
    await fleet.settle();
    expect(hub.onFenced()).toBe(hub.node);
    expect(hub.node).not.toBe(before);
    await fleet.settle();
    expect(peer.close).toEqual([4504, 'lease_lost']);
    expect(hooks).toEqual([]);
    const next = new Peer(fleet);
    await fleet.settle();
    expect(next.link.connection.info().node).toBe(hub.node);
    next.link.cut();
    await fleet.settle();
    expect(hooks).toEqual(['gone ']);
  });
});

describe('hooks of connections that end', () => {
  it('wait until the lease is certain, and are left to others where it is lost', async () => {
    await open();
    for (const held of [true, false]) {
      hooks = [];
      let answer!: (held: boolean) => void;
      jest.spyOn(fleet.faults(0), 'holdsLease').mockReturnValue(new Promise((resolve) => (answer = resolve)));
      const peer = new Peer(fleet);
      peer.ask(1, '$subscribe', { channel: 'chat.a' });
      await fleet.settle();
      peer.link.cut();
      await fleet.settle();
      expect(hooks).toEqual([]);
      answer(held);
      await fleet.settle();
      expect(hooks).toEqual(held ? ['disconnected chat.a', 'gone '] : []);
    }
  });
});

describe('frames', () => {
  it('are held while others may claim, in order, within the bounds of a connection that opens', async () => {
    await open();
    const hub = fleet.hubs[0]!;
    const peer = new Peer(fleet);
    await fleet.settle();
    hub.onHold(true);
    for (let id = 1; id <= 33; id++) peer.ask(id, 'echo', id);
    await fleet.settle();
    expect(peer.frames.slice(1)).toEqual([{ id: 33, error: { code: 'rate_limited', message: expect.any(String) } }]);
    hub.onHold(false);
    await fleet.settle();
    expect(peer.frames.slice(2).map(({ id }) => id as number)).toEqual(Array.from({ length: 32 }, (_, i) => i + 1));
    peer.ask(40, 'echo', 40);
    await fleet.settle();
    expect(peer.answers(40)).toEqual([{ id: 40, data: 40 }]);
  });
});

describe('a connection', () => {
  it('is registered before its hooks run, so that others can run the last of them', async () => {
    const connected: string[] = [];
    fleet = await Fleet.open({
      nodes: 1,
      application: { connected: ({ id }) => Promise.resolve(void connected.push(id)) },
    });
    fleet.faults(0).calls('register', 'delay');
    const { link } = new Peer(fleet);
    await fleet.settle();
    expect(connected).toEqual([]);
    fleet.faults(0).answer();
    await fleet.settle();
    expect(connected).toEqual([link.connection.id]);
  });

  it('is not kept waiting for long by a broker that is away', async () => {
    const connected: string[] = [];
    fleet = await Fleet.open({
      nodes: 1,
      application: { connected: ({ id }) => Promise.resolve(void connected.push(id)) },
    });
    fleet.faults(0).calls('register', 'delay', 'unavailable');
    for (let i = 0; i < 2; i++) new Peer(fleet);
    await fleet.settle();
    expect(connected).toHaveLength(1);
    await fleet.pass(1_000);
    expect(connected).toHaveLength(2);
  });

  it('that ends before it is registered leaves the registry, and no hook runs', async () => {
    const ran: string[] = [];
    fleet = await Fleet.open({
      nodes: 1,
      application: {
        connected: () => Promise.resolve(void ran.push('connected')),
        disconnected: () => Promise.resolve(void ran.push('disconnected')),
      },
    });
    fleet.faults(0).calls('register', 'delay');
    const { link } = new Peer(fleet);
    await fleet.settle();
    link.connection.terminate();
    fleet.faults(0).answer();
    await fleet.settle();
    expect(ran).toEqual([]);
    expect(await fleet.hubs[0]!.registered({})).toEqual([]);
  });
});
