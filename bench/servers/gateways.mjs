// The gateways of the bench: plain JavaScript, so the decorators are called by hand.
import { MessageBody, SubscribeMessage, WebSocketGateway, WebSocketServer } from '@nestjs/websockets';

function handler(type, name, event) {
  MessageBody()(type.prototype, name, 0);
  SubscribeMessage(event)(type.prototype, name, Object.getOwnPropertyDescriptor(type.prototype, name));
}

/** `@SubscribeMessage('echo') echo(@MessageBody() data) { return data; }` */
export class EchoGateway {
  echo(data) {
    return data;
  }
}
handler(EchoGateway, 'echo', 'echo');
WebSocketServer()(EchoGateway.prototype, 'server');
WebSocketGateway()(EchoGateway);

/** Three gateways of ten handlers each. */
export const IDLE_GATEWAYS = ['a', 'b', 'c'].map((name) => {
  const type = { [name]: class {} }[name];
  for (let i = 0; i < 10; i++) {
    Object.defineProperty(type.prototype, `handle${i}`, {
      configurable: true,
      writable: true,
      value: (data) => data,
    });
    handler(type, `handle${i}`, `${name}${i}`);
  }
  WebSocketGateway()(type);
  return type;
});
