import { MessageBody, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';

/** A gateway as Nest's own documentation has it. The page measures round trips with it. */
@WebSocketGateway()
export class EchoGateway {
  @SubscribeMessage('echo')
  echo(@MessageBody() data: unknown): unknown {
    return data;
  }
}
