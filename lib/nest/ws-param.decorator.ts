import { createParamDecorator, type ExecutionContext, type PipeTransform, type Type } from '@nestjs/common';
import type { Connection } from '../hub/connection.js';

type Pipe = Type<PipeTransform> | PipeTransform;

const wsParam = createParamDecorator((name: string | undefined, context: ExecutionContext): unknown => {
  const { params } = context.switchToWs().getClient<Connection>();
  return name === undefined ? params : params[name];
});

/**
 * Injects a parameter of the endpoint's path into a handler: with `@WebSocketGateway({ path: '/rooms/:id' })`,
 * `@WsParam('id', ParseIntPipe) id: number`. Without a name it injects all of them.
 */
export function WsParam(name?: string, ...pipes: Pipe[]): ParameterDecorator {
  return wsParam(name, ...pipes);
}
