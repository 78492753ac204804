// Many channels on one node, on Redis: the application subscribes its peers, one to each channel, and publishes.
import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EchoGateway } from './gateways.mjs';
import { DATA, serve } from './serve.mjs';

const { RealtimeModule, RealtimeService } = await import(process.env.BENCH_LIBRARY ?? 'nestjs-realtime');
const { redisBroker } = await import('nestjs-realtime/redis');

/** Calls that are under way at once. */
const CONCURRENCY = 256;

class AppModule {}
Module({
  imports: [
    RealtimeModule.forRoot({
      broker: redisBroker({ url: process.env.BENCH_REDIS_URL, prefix: process.env.BENCH_PREFIX }),
      channels: { 'bench.:name': {} },
      limits: {
        framesPerSecond: false,
        connectionsPerAddress: false,
        handshakesPerAddress: false,
        handshakesPerSecond: false,
      },
      heartbeat: { intervalMs: 600_000 },
    }),
  ],
  providers: [EchoGateway],
})(AppModule);

const app = await NestFactory.create(AppModule, { logger: ['error', 'fatal'] });
await app.listen(0, '127.0.0.1');
const realtime = app.get(RealtimeService);
const peers = app.get(EchoGateway).server.clients;

async function each(from, count, act) {
  const clients = [...peers];
  let next = from;
  const lane = async () => {
    while (next < from + count) {
      const i = next++;
      await act(`bench.${i}`, clients[i % clients.length]);
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, lane));
}

serve(app.getHttpServer().address().port, undefined, {
  subscribe: ({ from, count }) => each(from, count, (channel, peer) => peer.subscribe(channel)),
  unsubscribe: ({ from, count }) => each(from, count, (channel, peer) => peer.unsubscribe(channel)),
  publishEach: ({ from, count }) => each(from, count, (channel) => realtime.publish(channel, 'message', DATA)),
});
