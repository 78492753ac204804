import { ConnectedSocket, MessageBody, SubscribeMessage, WebSocketGateway, WsException } from '@nestjs/websockets';
import { Connection } from 'nestjs-realtime';

@WebSocketGateway()
export class GreetingGateway {
  @SubscribeMessage('greet')
  greet(@MessageBody() name: string): string {
    if (name === '') throw new WsException('Whom?');
    return `Hello, ${name}!`;
  }

  @SubscribeMessage('wave')
  wave(@ConnectedSocket() client: Connection): void {
    client.emit('waved', client.user?.id);
  }
}
