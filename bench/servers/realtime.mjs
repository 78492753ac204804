// nestjs-realtime as an application uses it: the module, its memory broker with history, its service.
import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EchoGateway, IDLE_GATEWAYS } from './gateways.mjs';
import { serve } from './serve.mjs';
import { countNothing } from './uncounted.mjs';

const { RealtimeModule, RealtimeService } = await import(process.env.BENCH_LIBRARY ?? 'nestjs-realtime');
const { BENCH_HEARTBEAT_MS = '600000', BENCH_JWT_SECRET: secret, BENCH_TRACES: traces } = process.env;
if (traces !== undefined) await import('./traces.mjs');
const tracing = traces === 'traced' && { tracing: (await import('nestjs-realtime/opentelemetry')).openTelemetry() };
const auth = secret && { auth: (await import('nestjs-realtime/jwt')).jwtAuth({ secret }) };

class AppModule {}
Module({
  imports: [
    RealtimeModule.forRoot({
      channels: { 'bench.:name': {} },
      limits: {
        framesPerSecond: false,
        connectionsPerAddress: false,
        handshakesPerAddress: false,
        handshakesPerSecond: false,
        connectionsPerUser: false,
      },
      ...auth,
      ...tracing,
      heartbeat: { intervalMs: Number(BENCH_HEARTBEAT_MS) }, // by default the peers have none, or have it off as well
    }),
  ],
  providers: [EchoGateway, ...(process.env.BENCH_GATEWAYS ? IDLE_GATEWAYS : [])],
})(AppModule);

const app = await NestFactory.create(AppModule, { logger: ['error', 'fatal'] });
await app.listen(0, '127.0.0.1');
if (process.env.BENCH_COUNTS === 'nothing') countNothing(app);
const realtime = app.get(RealtimeService);

const publishOne = (data) => {
  realtime.publish('bench.one', 'message', data).catch((error) => {
    throw error;
  });
};
serve(app.getHttpServer().address().port, publishOne, { connections: () => realtime.health().connections });
