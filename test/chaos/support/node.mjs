// A node: an application as any other, whose hooks write down what they were told, and last a while.
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { WebSocketGateway } from '@nestjs/websockets';
import { appendFileSync } from 'node:fs';
import { RealtimeModule, RealtimeService, sse, webSocket } from 'nestjs-realtime';
import { obey, settings, sharedOptions } from './child.mjs';

const { name, hooksFile, hookMs } = settings;

function note(hook, client, reason) {
  // Written before anything else happens, so that it outlives this process.
  appendFileSync(hooksFile, `${JSON.stringify({ at: Date.now(), hook, connection: client.id, node: name, reason })}\n`);
}

class ChaosGateway {
  handleConnection(client) {
    note('connect', client);
  }

  async handleDisconnect(client, reason) {
    note('disconnect', client, reason);
    await new Promise((resolve) => setTimeout(resolve, hookMs));
  }
}
WebSocketGateway()(ChaosGateway);

class AppModule {}
Module({
  imports: [RealtimeModule.forRoot({ ...sharedOptions(), transports: [webSocket(), sse({ retryMs: 100 })] })],
  providers: [ChaosGateway],
})(AppModule);

const app = await NestFactory.create(AppModule, { logger: ['error', 'fatal'] });
await app.listen(0, '127.0.0.1');
const realtime = app.get(RealtimeService);

obey(app.getHttpServer().address().port, {
  presence: async ({ channels }) => Promise.all(channels.map((channel) => realtime.presence(channel))),
  connections: async () => (await realtime.connections()).map(({ id }) => id),
});
