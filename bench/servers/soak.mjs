// A node of the soak: channels with history and presence, a gateway, and the memory broker or, by BENCH_REDIS_URL, Redis.
import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { readdirSync } from 'node:fs';
import { memoryBroker, RealtimeModule, RealtimeService } from 'nestjs-realtime';
import { redisBroker } from 'nestjs-realtime/redis';
import { EchoGateway } from './gateways.mjs';
import { serve } from './serve.mjs';

const { BENCH_REDIS_URL: url } = process.env;

class AppModule {}
Module({
  imports: [
    RealtimeModule.forRoot({
      broker: url === undefined ? memoryBroker() : redisBroker({ url }),
      channels: {
        'talk.:name': { publish: true, presence: true, history: { size: 50, ttlMs: 60_000 } },
        'room.:name': { publish: true, history: { size: 10, ttlMs: 2_000 } },
      },
      limits: { connectionsPerAddress: false, handshakesPerAddress: false },
      heartbeat: { intervalMs: 5_000, timeoutMs: 3_000 },
      presence: { graceMs: 1_000 },
    }),
  ],
  providers: [EchoGateway],
})(AppModule);

const app = await NestFactory.create(AppModule, { logger: ['error', 'fatal'] });
await app.listen(0, '127.0.0.1');
const realtime = app.get(RealtimeService);

/** What the process holds after a collection, and what the node counts. */
async function look() {
  for (let i = 0; i < 2; i++) {
    globalThis.gc();
    await new Promise(setImmediate);
  }
  const { heapUsed, rss, external } = process.memoryUsage();
  const { connections, channels, presence, outbox, losses, errors } = realtime.stats();
  const sum = (counts) => Object.values(counts).reduce((total, count) => total + count, 0);
  const patterns = Object.values(channels);
  return {
    heapBytes: heapUsed,
    rssBytes: rss,
    externalBytes: external,
    resources: process.getActiveResourcesInfo().filter((type) => !/^(TCP|TLS)SocketWrap$/.test(type)).length,
    files: readdirSync('/proc/self/fd').length,
    connections: sum(connections.active),
    registered: (await realtime.connections()).length,
    channels: sum(patterns.map(({ subscribed }) => subscribed)),
    subscriptions: sum(patterns.map(({ subscriptions }) => subscriptions)),
    members: presence.members,
    outboxBytes: outbox.bytes,
    done: {
      opened: sum(connections.opened),
      published: sum(patterns.map(({ published }) => published)),
      delivered: sum(patterns.map(({ delivered }) => delivered)),
      lost: sum(losses),
      errors,
    },
  };
}

serve(app.getHttpServer().address().port, () => {}, { look });
