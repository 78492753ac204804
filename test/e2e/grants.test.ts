import { afterEach, describe, expect, it } from '@jest/globals';
import {
  Controller,
  Injectable,
  Param,
  Sse,
  UseGuards,
  type CanActivate,
  type ExecutionContext,
  type MessageEvent,
} from '@nestjs/common';
import { MessageBody } from '@nestjs/websockets';
import type { Observable } from 'rxjs';
import {
  ChannelGateway,
  ChannelParam,
  Identity,
  OnPublish,
  OnSubscribe,
  RealtimeModule,
  RealtimeService,
  UserIdentity,
  type Connection,
} from '../../lib/index.js';
import { JwtConnectionGuard, jwtAuth } from '../../lib/jwt.js';
import { SECRET, sign } from '../support/jwt.js';
import { WatchedLogger } from '../support/watched-logger.js';
import { ChannelPeer } from './support/channel-peer.js';
import { openStream, refusedStream } from './support/event-stream.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';

/** What guards and hooks saw. */
let trace: string[] = [];

@Injectable()
class MemberGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const { user } = context.switchToWs().getClient<Connection>();
    trace.push(`guard ${String(user?.claims.role)}`);
    return user?.claims.role !== 'guest';
  }
}

@UseGuards(MemberGuard)
@ChannelGateway('chat.:room')
class ChatChannel {
  @OnSubscribe()
  enter(@ChannelParam('room') room: string): void {
    trace.push(`enter ${room}`);
  }

  @OnPublish('message')
  message(@MessageBody() body: unknown): unknown {
    trace.push('publish');
    return body;
  }
}

/** Channels under a route of the application's own. */
@Controller('own')
class OwnController {
  constructor(private readonly realtime: RealtimeService) {}

  @Sse(':channels')
  @UseGuards(new JwtConnectionGuard({ secret: SECRET }))
  read(@Param('channels') channels: string, @Identity() user: UserIdentity): Observable<MessageEvent> {
    return this.realtime.events(channels.split(','), { user, heartbeatMs: 50 });
  }
}

const bearer = (token: string): Record<string, string> => ({ Authorization: `Bearer ${token}` });

describe.each(platforms)('channels that a token grants on $name', (platform) => {
  let running: RunningApp | undefined;

  const start = async (): Promise<RunningApp> => {
    trace = [];
    const module = RealtimeModule.forRoot({ auth: jwtAuth({ secret: SECRET }), channels: { news: {} } });
    const prepare = (app: RunningApp['app']): void => app.useLogger(new WatchedLogger());
    return (running = await startApp(
      platform,
      { imports: [module], providers: [ChatChannel], controllers: [OwnController] },
      prepare,
    ));
  };

  afterEach(async () => {
    await running?.close();
    running = undefined;
  });

  it('are all that it can be used for, whatever guards and hooks say', async () => {
    const app = await start();
    const token = await sign({ channels: ['chat.lobby', 'not a pattern.:', 5] });
    const peer = await ChannelPeer.connect(app, '/realtime', { headers: bearer(token) });
    expect(await peer.ask('$subscribe', { channel: 'chat.attic' })).toMatchObject({ code: 'forbidden' });
    expect(await peer.ask('$publish', { channel: 'chat.attic', event: 'message', data: 1 })).toMatchObject({
      code: 'forbidden',
    });
    expect(await peer.ask('$history', { channel: 'news' })).toMatchObject({ code: 'forbidden' });
    expect(trace).toEqual([]);
    expect(await peer.ask('$subscribe', { channel: 'chat.lobby' })).toHaveProperty('position');
    expect(await peer.ask('$publish', { channel: 'chat.lobby', event: 'message', data: 1 })).toHaveProperty('position');
    expect(trace).toEqual(['guard undefined', 'enter lobby', 'guard undefined', 'publish']);
  });

  it('are all that a stream may name', async () => {
    const app = await start();
    const token = bearer(await sign({ channels: ['chat.lobby'] }));
    for (const names of ['chat.attic', 'chat.lobby,news']) {
      const { status, body } = await refusedStream(`${app.url}/realtime/sse?channels=${names}`, token);
      expect([status, body.error.code, body.error.details]).toEqual([
        403,
        'forbidden',
        { channel: names.split(',').at(-1) },
      ]);
    }
    const stream = await openStream(`${app.url}/realtime/sse?channels=chat.lobby`, token);
    expect((await stream.event('$open')).data).toContain('chat.lobby');
    stream.close();
  });

  it('are all that events() takes for its user, and the stream ends with the token', async () => {
    const app = await start();
    const exp = Math.floor(Date.now() / 1000) + 2;
    const token = bearer(await sign({ channels: ['chat.:room'], exp }));
    for (const names of ['news', 'chat.lobby,news']) {
      const { status, body } = await refusedStream(`${app.url}/own/${names}`, token);
      expect([status, body.error.code]).toEqual([403, 'forbidden']);
    }
    const stream = await openStream(`${app.url}/own/chat.lobby,chat.attic`, token);
    expect((await stream.event('$open')).data).toContain('chat.attic');
    await stream.ended;
    expect(Date.now()).toBeGreaterThanOrEqual(exp * 1000);
  });

  it('are looked at again when it is renewed, and so are guards and hooks', async () => {
    const app = await start();
    const token = await sign({ role: 'member' });
    const peer = await ChannelPeer.connect(app, '/realtime', { headers: bearer(token) });
    for (const channel of ['chat.lobby', 'chat.attic', 'news']) await peer.ask('$subscribe', { channel });
    trace = [];

    await peer.ask('$auth', { token: await sign({ role: 'member', exp: 9_999_999_999, jti: 'other' }) });
    expect(await peer.settle()).toEqual([]);
    expect(trace).toEqual([]);

    await peer.ask('$auth', { token: await sign({ role: 'member', channels: ['chat.:room'] }) });
    const withdrawn = { code: 'forbidden', resubscribe: false };
    expect(await peer.next()).toMatchObject({ channel: 'news', event: '$unsubscribed', data: withdrawn });
    expect(await peer.settle()).toEqual([]);
    expect(trace.sort()).toEqual(['enter attic', 'enter lobby', 'guard member', 'guard member']);

    await peer.ask('$auth', { token: await sign({ role: 'guest', channels: ['chat.:room'] }) });
    const ended = [await peer.next(), await peer.next()];
    expect(ended.map(({ channel }) => channel).sort()).toEqual(['chat.attic', 'chat.lobby']);
    for (const { event, data } of ended) expect([event, data]).toMatchObject(['$unsubscribed', withdrawn]);
    expect(await peer.ask('$subscribe', { channel: 'chat.lobby' })).toMatchObject({ code: 'forbidden' });
  });
});
