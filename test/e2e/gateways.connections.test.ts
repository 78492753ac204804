import { afterEach, describe, expect, it, jest } from '@jest/globals';
import { Module, ParseIntPipe } from '@nestjs/common';
import {
  ConnectedSocket,
  MessageBody,
  SubscribeMessage,
  WebSocketGateway,
  WsException,
  type OnGatewayConnection,
  type OnGatewayDisconnect,
} from '@nestjs/websockets';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Connection } from '../../lib/hub/connection.js';
import { RealtimeException } from '../../lib/protocol/errors.js';
import { WsParam } from '../../lib/nest/ws-param.decorator.js';
import { RealtimeModule } from '../../lib/nest/realtime.module.js';
import { connect, open, refused } from './support/gateway-peer.js';
import { Probe } from './support/probe.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';

/** What hooks wait for, too. */
class HookProbe extends Probe {
  connecting: (client: Connection, request: IncomingMessage) => unknown = () => undefined;
  disconnecting: (client: Connection, reason: string) => unknown = () => undefined;
}

@WebSocketGateway()
class HookedGateway implements OnGatewayConnection, OnGatewayDisconnect {
  constructor(private readonly probe: HookProbe) {}

  handleConnection(client: Connection, request: IncomingMessage): unknown {
    this.probe.note('connected');
    return this.probe.connecting(client, request);
  }

  handleDisconnect(client: Connection, reason?: string): unknown {
    this.probe.note(['disconnected', reason, client.closed?.code]);
    return this.probe.disconnecting(client, reason!);
  }

  @SubscribeMessage('first')
  first(@MessageBody() data: unknown): unknown {
    this.probe.note(['first', data]);
    return data;
  }
}

@WebSocketGateway()
class SecondGateway {
  constructor(private readonly probe: HookProbe) {}

  readonly handleConnection = (client: Connection): void => {
    this.probe.note(['second connected', client.readyState]);
  };

  @SubscribeMessage('second')
  second(@ConnectedSocket() client: Connection, @MessageBody() data: unknown): unknown {
    return { second: data, channels: client.channels.size };
  }
}

@WebSocketGateway({ path: 'rooms/:id/' })
class RoomsGateway {
  @SubscribeMessage('where')
  where(
    @WsParam('id', ParseIntPipe) id: number,
    @WsParam() params: object,
    @ConnectedSocket() client: Connection,
  ): unknown {
    return { id, params, own: client.params };
  }
}

describe.each(platforms)('connections of gateways on $name', (platform) => {
  let running: RunningApp | undefined;
  let probe: HookProbe;

  const start = async (...providers: any[]): Promise<RunningApp> => {
    running = await startApp(
      platform,
      { imports: [RealtimeModule.forRoot()], providers: [HookProbe, ...providers] },
      (app) => app.useLogger(false),
    );
    probe = running.app.get(HookProbe);
    return running;
  };

  afterEach(async () => {
    await running?.close();
    running = undefined;
    jest.restoreAllMocks();
  });

  it('call handleConnection with client and request, and handleDisconnect with client and reason, once each', async () => {
    const app = await start(HookedGateway);
    let given: unknown[] = [];
    probe.connecting = (client, request) =>
      (given = [client.headers['x-a'], request.headers['x-a'], client.readyState]);
    const peer = await connect(app, '/realtime', { headers: { 'X-A': 'b' } });
    expect(given).toEqual(['b', 'b', 1]);
    await peer.request('first', 1);
    await peer.close();
    const events = await probe.seen(3);
    expect(events).toEqual(['connected', ['first', 1], ['disconnected', expect.any(String), 1005]]);
  });

  it('call the hooks of each of several peers once, while others speak', async () => {
    const app = await start(HookedGateway, SecondGateway);
    const peers = await Promise.all([connect(app), connect(app), connect(app)]);
    for (const peer of peers) await peer.request('first', 1);
    for (const peer of peers) await peer.request('second', 1);
    await Promise.all(peers.map((peer) => peer.close()));
    const events = await probe.seen(12);
    const count = (name: string) => events.filter((event) => String(event).startsWith(name)).length;
    expect([count('connected'), count('second connected'), count('disconnected')]).toEqual([3, 3, 3]);
  });

  it('serve two gateways of one path', async () => {
    const app = await start(HookedGateway, SecondGateway);
    const peer = await connect(app);
    expect(await peer.request('first', 1, 1)).toEqual({ id: 1, data: 1 });
    expect(await peer.request('second', 2, 2)).toEqual({ id: 2, data: { second: 2, channels: 0 } });
  });

  it('serve a path with parameters', async () => {
    const app = await start(RoomsGateway, HookedGateway);
    const peer = await connect(app, '/rooms/42');
    expect(await peer.request('where', 0, 1)).toEqual({
      id: 1,
      data: { id: 42, params: { id: '42' }, own: { id: '42' } },
    });
    expect(await peer.request('first', 0, 2)).toMatchObject({ id: 2, error: { code: 'unknown_event' } });
    const text = await connect(app, '/rooms/text');
    expect(await text.request('where', 0, 1)).toMatchObject({ id: 1, error: { code: 'invalid' } });
    expect(probe.events).toEqual([]);
  });

  it('hold frames until an async handleConnection has ended', async () => {
    const app = await start(HookedGateway);
    let go!: () => void;
    probe.connecting = async () => {
      await new Promise<void>((resolve) => (go = resolve));
      probe.note('ready');
    };
    const peer = open(app.port);
    await once(peer.socket, 'open');
    peer.send({ id: 1, event: 'first', data: 'a' });
    peer.send({ id: 2, event: 'first', data: 'b' });
    peer.send({ id: 3, event: '$nothing' });
    await probe.seen(1);
    await new Promise<void>((resolve) => {
      peer.socket.once('pong', () => resolve());
      peer.socket.ping();
    });
    expect(probe.events).toEqual(['connected']);
    go();
    expect(await peer.next()).toMatchObject({ event: '$connected' });
    expect([await peer.next(), await peer.next(), await peer.next()]).toEqual(
      expect.arrayContaining([
        { id: 1, data: 'a' },
        { id: 2, data: 'b' },
      ]),
    );
    expect(probe.events).toEqual(['connected', 'ready', ['first', 'a'], ['first', 'b']]);
  });

  it.each<[name: string, thrown: unknown, code: number, reason: string]>([
    ['an Error', new Error('secret'), 4500, 'internal'],
    ['a RealtimeException', new RealtimeException('unauthenticated'), 4401, 'unauthenticated'],
    ['a WsException', new WsException('not you'), 4403, 'forbidden'],
  ])('close with a code where handleConnection throws %s, at once or later', async (_name, thrown, code, reason) => {
    const app = await start(HookedGateway);
    for (const connecting of [
      () => {
        throw thrown;
      },
      async () => {
        await Promise.resolve();
        throw thrown;
      },
    ]) {
      probe.connecting = connecting;
      const peer = open(app.port);
      const frame = await peer.next();
      expect(frame).toMatchObject({ event: '$disconnect', data: { code, reason } });
      expect(await peer.closed).toEqual({ code, reason });
    }
    expect(await probe.seen(4)).toEqual([
      'connected',
      ['disconnected', reason, code],
      'connected',
      ['disconnected', reason, code],
    ]);
  });

  it('survive a handleDisconnect that throws, at once or later', async () => {
    const app = await start(HookedGateway);
    for (const disconnecting of [
      () => {
        throw new Error('secret');
      },
      async () => {
        await Promise.resolve();
        throw new Error('secret');
      },
    ]) {
      probe.disconnecting = disconnecting;
      await (await connect(app)).close();
    }
    await probe.seen(4);
    const peer = await connect(app);
    expect(await peer.request('first', 1, 1)).toEqual({ id: 1, data: 1 });
  });

  it('wait for handleDisconnect when the application closes', async () => {
    const app = await start(HookedGateway);
    probe.disconnecting = async () => {
      await new Promise((resolve) => setImmediate(resolve));
      probe.note('ended');
    };
    const peer = await connect(app);
    await app.close();
    running = undefined;
    expect(probe.events).toEqual(['connected', ['disconnected', 'draining', 4503], 'ended']);
    expect(await peer.closed).toMatchObject({ code: 4503 });
  });

  it('leave the plain methods to clients that are none of a hub', async () => {
    const app = await start(HookedGateway);
    probe.disconnecting = (_client, reason) => reason;
    probe.connecting = () => 'returned';
    const gateway = app.app.get(HookedGateway);
    expect(gateway.handleConnection({} as Connection, {} as IncomingMessage)).toBe('returned');
    expect(gateway.handleDisconnect({} as Connection, 'given')).toBe('given');
    expect(() => new HookedGateway(new HookProbe()).handleDisconnect(null as never)).toThrow(TypeError);
    expect(HookedGateway.prototype.handleConnection.name).toBe('handleConnection');
    expect(HookedGateway.prototype.handleConnection).toHaveLength(2);
  });

  it('keep two applications of one process apart', async () => {
    const app = await start(HookedGateway);
    const other = await startApp(platform, {
      imports: [RealtimeModule.forRoot()],
      providers: [HookProbe, HookedGateway],
    });
    const peer = await connect(app);
    expect(other.app.get(HookProbe).events).toEqual([]);
    await (await connect(other)).close();
    expect(await other.app.get(HookProbe).seen(2)).toHaveLength(2);
    expect(probe.events).toEqual(['connected']);
    await other.close();
    expect(await peer.request('first', 1, 1)).toEqual({ id: 1, data: 1 });
  });

  it('serve a gateway with a port of its own', async () => {
    const spare = createServer().listen(0, '127.0.0.1');
    await once(spare, 'listening');
    const { port } = spare.address() as AddressInfo;
    spare.close();
    await once(spare, 'close');
    @WebSocketGateway(port, { path: '/own' })
    class OwnPortGateway {
      @SubscribeMessage('echo')
      echo(@MessageBody() data: unknown): unknown {
        return data;
      }
    }
    const app = await start(OwnPortGateway, HookedGateway);
    const peer = await connect({ port }, '/own');
    expect(await peer.request('echo', 1, 1)).toEqual({ id: 1, data: 1 });
    expect(await refused(app, '/own')).toMatchObject({ status: 404 });
    await peer.close();
  });
});

@WebSocketGateway({ namespace: '/chat' })
class NamespacedGateway {
  @SubscribeMessage('$mine')
  mine(): void {}
}

@WebSocketGateway({ path: '/twice' })
class TwiceGateway {}

@WebSocketGateway()
class AmbiguousGateway {
  @SubscribeMessage('first')
  first(): void {}
}

describe('mistakes in gateways', () => {
  it('fail the start, all at once, each with its place', async () => {
    @Module({})
    class OtherModule {}
    const started = startApp(platforms[0], {
      imports: [RealtimeModule.forRoot(), { module: OtherModule, providers: [TwiceGateway] }],
      providers: [
        NamespacedGateway,
        TwiceGateway,
        HookProbe,
        HookedGateway,
        AmbiguousGateway,
        { provide: 'made', useFactory: () => new RoomsGateway() },
      ],
    });
    const error = await started.then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    const message = error instanceof Error ? error.message : '';
    expect(message).toContain('NamespacedGateway: has a `namespace`');
    expect(message).toContain('`path`');
    expect(message).toContain('NamespacedGateway.mine: expected an event');
    expect(message).toContain('TwiceGateway: is provided in');
    expect(message).toContain('RoomsGateway: is provided by useFactory');
    expect(message).toContain('AmbiguousGateway: takes "first"');
  });

  it('fail the start where one event has two handlers, of one gateway or of several at one path', async () => {
    @WebSocketGateway()
    class DoubleGateway {
      @SubscribeMessage('first') one(): void {}
      @SubscribeMessage('first') two(): void {}
      @SubscribeMessage('other') other(): void {}
    }
    @WebSocketGateway({ path: '/realtime/' })
    class SpelledGateway {
      @SubscribeMessage('other') other(): void {}
    }
    @WebSocketGateway({ path: '/elsewhere' })
    class ElsewhereGateway {
      @SubscribeMessage('other') other(): void {}
    }
    const providers = [DoubleGateway, SpelledGateway, ElsewhereGateway];
    const started = startApp(platforms[0], { imports: [RealtimeModule.forRoot()], providers });
    const message = await started.then(
      () => '',
      (thrown: unknown) => (thrown as Error).message,
    );
    expect(message.split('\n')).toEqual([
      'RealtimeModule cannot start:',
      '  - DoubleGateway: takes "first" twice',
      '  - SpelledGateway: takes "other", which DoubleGateway takes at the same path',
    ]);
  });

  it('an adapter of the application fails the start', async () => {
    const started = startApp(
      platforms[0],
      { imports: [RealtimeModule.forRoot()], providers: [RoomsGateway] },
      async (app) => {
        const { WsAdapter } = await import('@nestjs/platform-ws');
        app.useWebSocketAdapter(new WsAdapter(app));
      },
    );
    await expect(started).rejects.toThrow(/useWebSocketAdapter/);
  });
});
