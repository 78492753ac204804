import { afterEach, describe, expect, it } from '@jest/globals';
import { Inject, Injectable, Scope } from '@nestjs/common';
import { REQUEST } from '@nestjs/core';
import { ConnectedSocket, SubscribeMessage, WebSocketGateway, WsException } from '@nestjs/websockets';
import type { Connection } from '../../lib/hub/connection.js';
import { RealtimeModule } from '../../lib/nest/realtime.module.js';
import { RealtimeException } from '../../lib/protocol/errors.js';
import { connect, open } from './support/gateway-peer.js';
import { Probe } from './support/probe.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';

// Nest 11 does not make gateways per connection.

let made = 0;

@Injectable({ scope: Scope.REQUEST })
class PerConnection {
  readonly n = ++made;
  constructor(@Inject(REQUEST) readonly request: Connection) {}
}

@WebSocketGateway()
class ScopedGateway {
  constructor(
    private readonly scoped: PerConnection,
    private readonly probe: Probe,
  ) {}

  async handleConnection(client: Connection): Promise<void> {
    await Promise.resolve();
    this.probe.note(['connected', this.scoped.n, this.scoped.request.id === client.id]);
    if (client.query.refuse === 'yes') throw new RealtimeException('forbidden');
  }

  async handleDisconnect(_client: Connection, reason: string): Promise<void> {
    await Promise.resolve();
    this.probe.note(['disconnected', this.scoped.n, reason]);
  }

  @SubscribeMessage('n')
  n(@ConnectedSocket() client: Connection): unknown {
    return { n: this.scoped.n, same: this.scoped.request.id === client.id };
  }

  @SubscribeMessage('fail')
  fail(): never {
    throw new WsException('scoped');
  }
}

@Injectable({ scope: Scope.REQUEST })
class Unmakeable {
  constructor() {
    throw new Error('cannot be made');
  }
}

@WebSocketGateway({ path: '/broken' })
class BrokenGateway {
  constructor(readonly unmakeable: Unmakeable) {}
  handleConnection(): void {}
}

describe.each(platforms)('request-scoped gateways on $name', (platform) => {
  let running: RunningApp;
  let probe: Probe;

  const start = async (): Promise<RunningApp> => {
    made = 0;
    const providers = [Probe, ScopedGateway, PerConnection, BrokenGateway, Unmakeable];
    running = await startApp(platform, { imports: [RealtimeModule.forRoot()], providers }, (app) =>
      app.useLogger(false),
    );
    probe = running.app.get(Probe);
    return running;
  };

  afterEach(() => running.close());

  it('are made once per connection, for its hooks and handlers', async () => {
    const app = await start();
    const [a, b] = [await connect(app), await connect(app)];
    expect(await a.request('n', 0, 1)).toEqual({ id: 1, data: { n: 1, same: true } });
    expect(await b.request('n', 0, 1)).toEqual({ id: 1, data: { n: 2, same: true } });
    expect(await a.request('n', 0, 2)).toEqual({ id: 2, data: { n: 1, same: true } });
    expect(await a.request('fail', 0, 3)).toEqual({ id: 3, error: { code: 'rejected', message: 'scoped' } });
    a.socket.close(4000, 'enough');
    expect(await probe.seen(3)).toEqual([
      ['connected', 1, true],
      ['connected', 2, true],
      ['disconnected', 1, 'enough'],
    ]);
  });

  it('refuse by throwing in handleConnection', async () => {
    const app = await start();
    const peer = open(app.port, '/realtime?refuse=yes');
    expect(await peer.closed).toEqual({ code: 4403, reason: 'forbidden' });
    expect(await probe.seen(2)).toEqual([
      ['connected', 1, true],
      ['disconnected', 1, 'forbidden'],
    ]);
  });

  it('that cannot be made close the connection, and nothing else', async () => {
    const app = await start();
    expect(await open(app.port, '/broken').closed).toEqual({ code: 4500, reason: 'internal' });
    const peer = await connect(app);
    expect(await peer.request('n', 0, 1)).toMatchObject({ id: 1, data: { same: true } });
  });
});
