import { Module } from '@nestjs/common';
import { RealtimeModule } from 'nestjs-realtime';
import { ChatChannel } from './chat.channel.js';

@Module({
  imports: [RealtimeModule.forRoot({ channels: { news: { subscribe: true } } })],
  providers: [ChatChannel],
})
export class AppModule {}
