import { Module } from '@nestjs/common';
import { RealtimeModule } from 'nestjs-realtime';
import { jwtAuth } from 'nestjs-realtime/jwt';
import { ChatChannel } from './chat.channel.js';
import { GreetingGateway } from './greeting.gateway.js';

export const JWT_SECRET = 'a secret of at least 32 bytes, for tests';

/** The application under test. Nothing in it is there for tests. */
@Module({
  imports: [RealtimeModule.forRoot({ auth: jwtAuth({ secret: JWT_SECRET }) })],
  providers: [ChatChannel, GreetingGateway],
})
export class AppModule {}
