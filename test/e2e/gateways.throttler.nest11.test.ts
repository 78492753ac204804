import { describe, expect, it } from '@jest/globals';
import { UseGuards } from '@nestjs/common';
import { MessageBody, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { RealtimeModule } from '../../lib/nest/realtime.module.js';
import { connect, refused } from './support/gateway-peer.js';
import { platforms, startApp } from './support/platforms.js';

// With Nest 12, which is ESM, jest cannot load the throttler, which is CommonJS, before Node 24.9.
describe.each(platforms)('the stock ThrottlerGuard on $name', (platform) => {
  const start = async (options: (guard: any) => object, ...providers: any[]) => {
    const { ThrottlerGuard, ThrottlerModule } = await import('@nestjs/throttler');
    const throttler = ThrottlerModule.forRoot([{ ttl: 60_000, limit: 2 }]);
    const imports = [RealtimeModule.forRoot(options(ThrottlerGuard)), throttler];
    return startApp(platform, { imports, providers }, (app) => app.useLogger(false));
  };

  it('refuses handshakes on handleConnection with 429 and Retry-After', async () => {
    const { ThrottlerGuard } = await import('@nestjs/throttler');
    @WebSocketGateway({ path: '/limited' })
    class LimitedGateway {
      @UseGuards(ThrottlerGuard)
      handleConnection(): void {}

      @SubscribeMessage('echo')
      echo(@MessageBody() data: unknown): unknown {
        return data;
      }
    }
    const app = await start(() => ({}), LimitedGateway);
    const peer = await connect(app, '/limited');
    for (const n of [1, 2, 3]) expect(await peer.request('echo', n, n)).toEqual({ id: n, data: n });
    await connect(app, '/limited');
    const { status, headers, body } = await refused(app, '/limited');
    expect(status).toBe(429);
    expect(Number(headers['retry-after'])).toBeGreaterThan(0);
    expect(body.error).toMatchObject({ code: 'rate_limited', retryAfterMs: Number(headers['retry-after']) * 1000 });
    await app.close();
  });

  it('refuses handshakes as one of connectionGuards', async () => {
    const app = await start((guard) => ({ connectionGuards: [guard] }));
    await connect(app);
    await connect(app);
    expect(await refused(app)).toMatchObject({ status: 429 });
    await app.close();
  });
});
