// nestjs-realtime on Redis, one of several nodes behind a proxy: at BENCH_PORT, and away in order after SIGTERM.
import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { RealtimeModule, RealtimeService } from 'nestjs-realtime';
import { redisBroker } from 'nestjs-realtime/redis';
import { peakOf, serve } from './serve.mjs';

const { BENCH_PORT, BENCH_REDIS_URL, BENCH_HANDSHAKES } = process.env;

class AppModule {}
Module({
  imports: [
    RealtimeModule.forRoot({
      broker: redisBroker({ url: BENCH_REDIS_URL }),
      channels: { 'bench.:name': { history: { size: 1_000, ttlMs: 120_000 } } }, // two minutes, as the other one keeps
      trustedProxies: 1,
      drain: { windowMs: 2_000 }, // some 500 peers in it for each of the other nodes
      // All peers come from one address here.
      limits: {
        connectionsPerAddress: false,
        handshakesPerAddress: false,
        handshakesPerSecond: Number(BENCH_HANDSHAKES),
      },
    }),
  ],
})(AppModule);

const app = await NestFactory.create(AppModule, { logger: ['error', 'fatal'] });
app.enableShutdownHooks();
await app.listen(Number(BENCH_PORT), '127.0.0.1');
const realtime = app.get(RealtimeService);

const publishOne = (data) => {
  realtime.publish('bench.one', 'message', data).catch((error) => {
    throw error;
  });
};
const peak = peakOf(() => realtime.stats().connections.opened.websocket ?? 0);
serve(app.getHttpServer().address().port, publishOne, { peak });
