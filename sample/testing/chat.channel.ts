import { MessageBody } from '@nestjs/websockets';
import { ChannelGateway, ChannelParam, Identity, OnPublish, OnSubscribe, RealtimeException } from 'nestjs-realtime';

/** Rooms that everybody may enter but one, and where nobody can speak for somebody else. */
@ChannelGateway('chat.:room', { history: { size: 100, ttlMs: 600_000 }, presence: true })
export class ChatChannel {
  @OnSubscribe()
  enter(@ChannelParam('room') room: string, @Identity('id') user: string): void {
    if (room === 'staff' && user !== 'ann') throw new RealtimeException('forbidden');
  }

  @OnPublish('message')
  message(@MessageBody() body: { text: string }, @Identity('id') from: string): { text: string; from: string } {
    return { text: body.text, from };
  }
}
