// A node: an application as any other, whose hooks write down what they were told, and last a while; handlers write down
// that they began.
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { MessageBody, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import {
  ChannelGateway,
  ChannelParam,
  Idempotent,
  longPolling,
  OnSubscribe,
  RealtimeException,
  RealtimeModule,
  RealtimeService,
  SendKey,
  sse,
  webSocket,
} from 'nestjs-realtime';
import { obey, settings, sharedOptions } from './child.mjs';

const { name, hooksFile, hookMs, port } = settings;
const runsFile = `${hooksFile}-runs`;

function note(hook, client, reason) {
  // Written before anything else happens, so that it outlives this process.
  appendFileSync(hooksFile, `${JSON.stringify({ at: Date.now(), hook, connection: client.id, node: name, reason })}\n`);
}

function noteRun(event, label, key) {
  appendFileSync(runsFile, `${JSON.stringify({ event, label, key, node: name })}\n`);
}

/** What lets handlers end that wait. */
let release = () => undefined;
let released = new Promise((resolve) => (release = resolve));

class ChaosGateway {
  handleConnection(client) {
    note('connect', client);
  }

  async handleDisconnect(client, reason) {
    note('disconnect', client, reason);
    await new Promise((resolve) => setTimeout(resolve, hookMs));
  }

  count(label) {
    noteRun('count', label);
    return label;
  }

  async hold(label, key) {
    noteRun('hold', label, key);
    await released;
    return 'released';
  }

  /** Waits the first time, and tells the key of the frame when it runs again. */
  async holdOnce(label, key) {
    const again = existsSync(runsFile) && readFileSync(runsFile, 'utf8').includes(JSON.stringify(key));
    noteRun('holdOnce', label, key);
    if (again) return { again: key };
    await released;
    return 'released';
  }
}
WebSocketGateway()(ChaosGateway);
handle('count');
handle('hold');
handle('holdOnce', Idempotent());

function handle(event, ...more) {
  const descriptor = Object.getOwnPropertyDescriptor(ChaosGateway.prototype, event);
  for (const decorate of [SubscribeMessage(event), ...more]) decorate(ChaosGateway.prototype, event, descriptor);
  SendKey()(ChaosGateway.prototype, event, 1);
  MessageBody()(ChaosGateway.prototype, event, 0);
}

/** Refuses everybody. */
class ClosedChannel {
  enter() {
    throw new RealtimeException('forbidden');
  }
}
ChannelGateway('closed.:name')(ClosedChannel);
whenSubscribed(ClosedChannel);

/** Each node refuses the first who comes to a channel, for a while. */
class BusyChannel {
  names = new Set();

  enter(name) {
    if (this.names.has(name)) return;
    this.names.add(name);
    throw new RealtimeException('broker_unavailable');
  }
}
ChannelGateway('busy.:name')(BusyChannel);
whenSubscribed(BusyChannel);
ChannelParam('name')(BusyChannel.prototype, 'enter', 0);

function whenSubscribed({ prototype }) {
  OnSubscribe()(prototype, 'enter', Object.getOwnPropertyDescriptor(prototype, 'enter'));
}

class AppModule {}
Module({
  imports: [
    RealtimeModule.forRoot({ ...sharedOptions(), transports: [webSocket(), sse({ retryMs: 100 }), longPolling()] }),
  ],
  providers: [ChaosGateway, ClosedChannel, BusyChannel],
})(AppModule);

const app = await NestFactory.create(AppModule, { logger: ['error', 'fatal'] });
await app.listen(port, '127.0.0.1');
const realtime = app.get(RealtimeService);
// Which node a request came to, seen through whatever is in front.
app.getHttpServer().prependListener('request', (_request, response) => response.setHeader('x-node', name));

obey(app.getHttpServer().address().port, {
  presence: async ({ channels }) => Promise.all(channels.map((channel) => realtime.presence(channel))),
  connections: async () => (await realtime.connections()).map(({ id }) => id),
  release: () => {
    release();
    released = new Promise((resolve) => (release = resolve));
  },
});
