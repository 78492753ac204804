import { afterEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Inject } from '@nestjs/common';
import { HealthCheck, HealthCheckService, TerminusModule, type HealthCheckResult } from '@nestjs/terminus';
import { WebSocketGateway } from '@nestjs/websockets';
import { memoryBroker, RealtimeModule, type RealtimeModuleOptions } from '../../lib/index.js';
import { RealtimeHealthIndicator } from '../../lib/terminus.js';
import { faultyBroker } from '../../lib/testing/faulty-broker.js';
import { until } from '../support/redis-server.js';
import { connect } from './support/gateway-peer.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';

@Controller('health')
class HealthController {
  constructor(
    @Inject(HealthCheckService) private readonly health: HealthCheckService,
    @Inject(RealtimeHealthIndicator) private readonly realtime: RealtimeHealthIndicator,
  ) {}

  @Get('live')
  @HealthCheck()
  live(): Promise<HealthCheckResult> {
    return this.health.check([() => this.realtime.isAlive('realtime')]);
  }

  @Get('ready')
  @HealthCheck()
  ready(): Promise<HealthCheckResult> {
    return this.health.check([() => this.realtime.isReady('realtime')]);
  }
}

/** Its disconnection hooks end when the test says so. */
@WebSocketGateway()
class SlowGateway {
  end: () => void = () => undefined;
  readonly #ended = new Promise<void>((resolve) => (this.end = resolve));

  handleDisconnect(): Promise<void> {
    return this.#ended;
  }
}

/** What a probe gets, and what the indicator says in it. */
interface Answer {
  readonly http: number;
  readonly realtime: Record<string, unknown>;
}

describe.each(platforms)('the indicator for @nestjs/terminus on $name', (platform) => {
  let running: RunningApp | undefined;

  afterEach(async () => {
    running?.app.get(SlowGateway).end();
    await running?.close();
    running = undefined;
  });

  async function start(options: RealtimeModuleOptions = {}): Promise<RunningApp> {
    running = await startApp(platform, {
      imports: [TerminusModule.forRoot({ logger: false }), RealtimeModule.forRoot(options)],
      controllers: [HealthController],
      providers: [RealtimeHealthIndicator, SlowGateway],
    });
    return running;
  }

  async function probe(which: 'live' | 'ready'): Promise<Answer> {
    const response = await fetch(`${running!.url}/health/${which}`);
    const { details } = (await response.json()) as HealthCheckResult;
    return { http: response.status, realtime: details.realtime! };
  }

  const told = {
    ready: true,
    degraded: false,
    reasons: [],
    broker: { name: 'memory', available: true },
    eventLoopLagMs: expect.any(Number),
  };

  it('is up where the node is', async () => {
    await start();
    await until(async () => (await probe('live')).realtime.degraded === false, 'the machine to give it time');
    const up = { http: 200, realtime: { ...told, status: 'up' } };
    expect([await probe('live'), await probe('ready')]).toEqual([up, up]);
  });

  it('is up and says that it is degraded, and why, while the broker is away', async () => {
    const broker = faultyBroker(memoryBroker());
    await start({ broker });
    broker.sessions[0]!.pause();
    const degraded = { ...told, broker: { name: 'memory', available: false }, status: 'up', degraded: true };
    for (const which of ['live', 'ready'] as const) {
      const { http, realtime } = await probe(which);
      expect([http, realtime]).toEqual([200, { ...degraded, reasons: expect.arrayContaining(['broker']) }]);
    }
    broker.sessions[0]!.resume();
    await until(async () => (await probe('ready')).realtime.degraded === false, 'the end of the outage');
  });

  it('is alive and not ready while the node drains, and down when it is closed', async () => {
    const app = await start({ drain: { timeoutMs: 60_000 } });
    const indicator = app.app.get(RealtimeHealthIndicator);
    const peer = await connect(app);
    await peer.request('nothing'); // answered once its hooks have run
    const closing = app.close();
    expect(await peer.next()).toMatchObject({ event: '$disconnect' });
    const [live, ready] = [await probe('live'), await probe('ready')];
    expect([live.realtime, ready.realtime]).toMatchObject([
      { status: 'up', ready: false },
      { status: 'down', ready: false },
    ]);
    expect([live.http, ready.http]).toEqual([200, 503]);
    app.app.get(SlowGateway).end();
    await closing;
    expect([indicator.isAlive('realtime'), indicator.isReady('realtime')]).toMatchObject([
      { realtime: { status: 'down', ready: false, degraded: false } },
      { realtime: { status: 'down', ready: false, degraded: false } },
    ]);
  });
});
