import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import { SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { anonymous, RealtimeModule, RealtimeService, type RealtimeModuleOptions } from '../../lib/index.js';
import { connect } from './support/gateway-peer.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';

@WebSocketGateway()
class EchoGateway {
  @SubscribeMessage('echo')
  echo(): void {}
}

describe.each(platforms)('the audit on $name', (platform) => {
  let running: RunningApp | undefined;
  let warn: jest.SpiedFunction<Logger['warn']>;

  beforeEach(() => {
    warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
  });

  afterEach(async () => {
    await running?.close();
    running = undefined;
    jest.restoreAllMocks();
  });

  async function start(options: RealtimeModuleOptions, hooks: boolean): Promise<RealtimeService> {
    const metadata = { imports: [RealtimeModule.forRoot(options)], providers: [EchoGateway] };
    running = await startApp(platform, metadata, (app) => {
      if (hooks) app.enableShutdownHooks();
    });
    return running.app.get(RealtimeService);
  }

  const warnings = (): string[] => warn.mock.calls.map(([message]) => String(message));

  it('is quiet where all is well, and returns nothing once somebody watches', async () => {
    const realtime = await start({ auth: anonymous() }, true);
    expect(warnings()).toEqual([]);
    expect(realtime.audit().map(({ check }) => check)).toEqual(['monitoring']);
    realtime.health();
    expect(realtime.audit()).toEqual([]);
  });

  it('says at the start what falls short, with what mends it', async () => {
    const realtime = await start({ origins: '*', limits: { maxOutboxBytes: false } }, false);
    const found = realtime.audit().filter(({ check }) => check !== 'monitoring');
    expect(found.map(({ check }) => check)).toEqual(['authentication', 'limits', 'origins', 'shutdown']);
    expect(warnings()).toEqual(found.map(({ message, fix }) => `${message}. ${fix}.`));
  });

  it('notices a proxy that names the addresses of peers and is not trusted, once', async () => {
    const realtime = await start({ auth: anonymous() }, true);
    for (const address of ['203.0.113.7', '203.0.113.8']) {
      const peer = await connect(running!, '/realtime', { headers: { 'x-forwarded-for': address } });
      await peer.request('echo', null, 1);
    }
    expect(warnings()).toEqual([expect.stringContaining('X-Forwarded-For')]);
    expect(realtime.audit().map(({ check }) => check)).toContain('proxies');
  });

  it('has nothing against a proxy that is trusted', async () => {
    const realtime = await start({ auth: anonymous(), trustedProxies: ['127.0.0.0/8'] }, true);
    await connect(running!, '/realtime', { headers: { 'x-forwarded-for': '203.0.113.7' } });
    expect(warnings()).toEqual([]);
    expect(realtime.audit().map(({ check }) => check)).not.toContain('proxies');
  });
});
