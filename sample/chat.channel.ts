import { ValidationPipe } from '@nestjs/common';
import { ConnectedSocket, MessageBody } from '@nestjs/websockets';
import { ChannelGateway, Connection, OnPublish, OnSubscribe } from 'nestjs-realtime';
import { NewMessage } from './new-message.dto.js';

const MAX_NAME_LENGTH = 32;

/** A chat room is a channel: who subscribes is in the room, what is published reaches everybody in it. */
@ChannelGateway('chat.:room', { history: { size: 100, ttlMs: 600_000 }, presence: true })
export class ChatChannel {
  /** What it returns is told to the others as the member's `info`. Throwing would refuse the peer. */
  @OnSubscribe()
  enter(@ConnectedSocket() client: Connection): { name: string } {
    return { name: nameOf(client) };
  }

  /** What it returns is published. */
  @OnPublish('message')
  message(
    @MessageBody(new ValidationPipe({ transform: true, whitelist: true })) { text, name }: NewMessage,
    @ConnectedSocket() client: Connection,
  ): { text: string; name: string; from: string; at: number } {
    return { text, name: name ?? nameOf(client), from: client.client, at: Date.now() };
  }
}

/** A peer's nickname: the page connects to `/realtime?name=…`. Others go by who their token says they are. */
function nameOf(client: Connection): string {
  return client.query.name?.trim().slice(0, MAX_NAME_LENGTH) || client.user?.id || 'Guest';
}
