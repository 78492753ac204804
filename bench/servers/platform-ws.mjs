// @nestjs/platform-ws: its adapter, broadcasting as its users do.
import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { WsAdapter } from '@nestjs/platform-ws';
import { WebSocket } from 'ws';
import { EchoGateway, IDLE_GATEWAYS } from './gateways.mjs';
import { serve } from './serve.mjs';

class AppModule {}
Module({ providers: [EchoGateway, ...(process.env.BENCH_GATEWAYS ? IDLE_GATEWAYS : [])] })(AppModule);

const app = await NestFactory.create(AppModule, { logger: ['error', 'fatal'] });
app.useWebSocketAdapter(new WsAdapter(app));
await app.listen(0, '127.0.0.1');
const { server } = app.get(EchoGateway);

serve(app.getHttpServer().address().port, (data) => {
  const frame = JSON.stringify({ event: 'message', data });
  server.clients.forEach((client) => {
    if (client.readyState === WebSocket.OPEN) client.send(frame);
  });
});
