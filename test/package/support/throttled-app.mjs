// An application of Nest 12, in ECMAScript modules, with the guard for all of it: `node throttled-app.mjs <platform>`.
// Ends with its parent.
import 'reflect-metadata';
import { Controller, Get, Module, UseInterceptors } from '@nestjs/common';
import { APP_GUARD, NestFactory } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { SkipThrottle, ThrottlerGuard, ThrottlerModule } from '@nestjs/throttler';
import { SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { ChannelGateway, OnSubscribe, RealtimeModule } from 'nestjs-realtime';
import { RealtimeThrottlerGuard, ThrottlingInterceptor } from 'nestjs-realtime/throttler';

const LIMIT = { ttl: 60_000, limit: 2 };

function decorate(type, decorators, methods = {}) {
  for (const [name, own] of Object.entries(methods)) {
    for (const decorator of own) {
      decorator(type.prototype, name, Object.getOwnPropertyDescriptor(type.prototype, name));
    }
  }
  for (const decorator of decorators) decorator(type);
  return type;
}

const EchoGateway = decorate(
  class EchoGateway {
    echo(_client, data) {
      return data;
    }

    free() {
      return 'free';
    }
  },
  [WebSocketGateway()],
  { echo: [SubscribeMessage('echo')], free: [SubscribeMessage('free'), SkipThrottle()] },
);

/** Its own interceptor counts as well, under the same key: every frame is two hits. */
const TwiceGateway = decorate(
  class TwiceGateway {
    twice(_client, data) {
      return data;
    }
  },
  [WebSocketGateway({ path: '/twice' }), UseInterceptors(ThrottlingInterceptor)],
  { twice: [SubscribeMessage('twice')] },
);

const ChatChannel = decorate(
  class ChatChannel {
    enter() {}
  },
  [ChannelGateway('chat.:room')],
  { enter: [OnSubscribe()] },
);

const PlainController = decorate(
  class PlainController {
    plain() {
      return 'plain';
    }
  },
  [Controller('plain')],
  { plain: [Get()] },
);

const AppModule = decorate(class AppModule {}, [
  Module({
    imports: [
      ThrottlerModule.forRoot([LIMIT]),
      RealtimeModule.forRoot({ trustedProxies: 1, connectionGuards: [RealtimeThrottlerGuard] }),
    ],
    controllers: [PlainController],
    providers: [EchoGateway, TwiceGateway, ChatChannel, { provide: APP_GUARD, useClass: RealtimeThrottlerGuard }],
  }),
]);

if (!(RealtimeThrottlerGuard.prototype instanceof ThrottlerGuard)) throw new Error('There are two copies of the guard');
const adapter = process.argv[2] === 'fastify' ? new FastifyAdapter() : new ExpressAdapter();
const app = await NestFactory.create(AppModule, adapter, { logger: ['error', 'fatal'] });
await app.listen(0, '127.0.0.1');
process.on('disconnect', () => process.exit(0));
process.send({ port: app.getHttpServer().address().port });
