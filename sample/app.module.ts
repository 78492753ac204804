import { Module } from '@nestjs/common';
import { memoryBroker, RealtimeModule } from 'nestjs-realtime';
import { prometheus } from 'nestjs-realtime/prometheus';
import { redisBroker } from 'nestjs-realtime/redis';
import { AdminAccess } from './admin.access.js';
import { AdminController } from './admin.controller.js';
import { AdminGuard } from './admin.guard.js';
import { auth } from './auth.js';
import { ChatChannel } from './chat.channel.js';
import { ConnectionsController } from './connections.controller.js';
import { EchoGateway } from './echo.gateway.js';
import { adminToken, redisUrl, trustedProxies } from './environment.js';
import { HealthController } from './health.controller.js';
import { Leader } from './leader.js';
import { LoadController } from './load.controller.js';
import { ScoresController } from './scores.controller.js';
import { ScoresFeed } from './scores.feed.js';
import { SessionController } from './session.controller.js';
import { StatsFeed } from './stats.feed.js';
import { TickerFeed } from './ticker.feed.js';

@Module({
  imports: [
    RealtimeModule.forRoot({
      // With a Redis, any number of these processes are one; without, this one is alone.
      broker: redisUrl === undefined ? memoryBroker() : redisBroker({ url: redisUrl }),
      auth,
      trustedProxies,
      // Channels that only the server publishes to need no class.
      channels: {
        // A peer that reads too slowly gets the newest price of those that wait for it.
        'ticker.:symbol': { history: { size: 300, ttlMs: 60_000 }, slowConsumer: { conflateBy: ({ event }) => event } },
        'scores.:match': { history: { size: 100, ttlMs: 600_000 } },
        'stats.server': { history: { size: 60, ttlMs: 60_000 } },
      },
      presence: { graceMs: 5_000 },
      // GET /realtime/metrics, for everybody who reaches the demo: name guards where that is not meant.
      metrics: { exporter: prometheus(), guards: [] },
      // /realtime/admin, for those whom the guard lets in.
      ...(adminToken === undefined ? {} : { admin: { guards: [AdminGuard], readOnly: false } }),
    }),
  ],
  controllers: [
    ScoresController,
    LoadController,
    ConnectionsController,
    HealthController,
    SessionController,
    ...(adminToken === undefined ? [] : [AdminController]),
  ],
  providers: [
    ChatChannel,
    EchoGateway,
    { provide: Leader, useFactory: () => new Leader(redisUrl) },
    TickerFeed,
    ScoresFeed,
    StatsFeed,
    ...(adminToken === undefined ? [] : [{ provide: AdminAccess, useValue: new AdminAccess(adminToken) }, AdminGuard]),
  ],
})
export class AppModule {}
