// nestjs-realtime on Redis, one of two nodes: the module with its Redis broker, its service. Whether the channel has a
// history says BENCH_HISTORY.
import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { serve } from './serve.mjs';

const { BENCH_LIBRARY, BENCH_HISTORY, BENCH_REDIS_URL } = process.env;
const { RealtimeModule, RealtimeService } = await import(BENCH_LIBRARY ?? 'nestjs-realtime');
const { redisBroker } = await import(BENCH_LIBRARY?.replace('index.js', 'redis.js') ?? 'nestjs-realtime/redis');

class AppModule {}
Module({
  imports: [
    RealtimeModule.forRoot({
      broker: redisBroker({ url: BENCH_REDIS_URL, prefix: BENCH_HISTORY ? 'history' : 'plain' }),
      channels: { 'bench.:name': BENCH_HISTORY ? {} : { history: false } },
      limits: {
        framesPerSecond: false,
        connectionsPerAddress: false,
        handshakesPerAddress: false,
        handshakesPerSecond: false,
      },
      heartbeat: { intervalMs: 600_000 },
    }),
  ],
})(AppModule);

const app = await NestFactory.create(AppModule, { logger: ['error', 'fatal'] });
await app.listen(0, '127.0.0.1');
const realtime = app.get(RealtimeService);

serve(app.getHttpServer().address().port, (data) => {
  realtime.publish('bench.one', 'message', data).catch((error) => {
    throw error;
  });
});
