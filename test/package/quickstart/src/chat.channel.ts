import { MessageBody } from '@nestjs/websockets';
import { ChannelGateway, ChannelParam, OnPublish, OnSubscribe } from 'nestjs-realtime';

@ChannelGateway('chat.:room', { history: { size: 100, ttlMs: 600_000 }, presence: true })
export class ChatChannel {
  @OnSubscribe() // throw to refuse
  enter(@ChannelParam('room') room: string): void {
    if (room === 'secret') throw new Error('not for you');
  }

  @OnPublish('message') // what you return is published to everyone in the channel
  message(@MessageBody() body: { text: string }): { text: string; at: number } {
    return { text: body.text, at: Date.now() };
  }
}
