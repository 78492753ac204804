import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import { gatewayCallOf } from './gateway-call.js';

/**
 * Injects into a handler what names the frame, the same each time that it runs, on whatever node; `undefined` over
 * WebSocket, where a frame is handled once.
 */
export const SendKey = createParamDecorator((_data: unknown, context: ExecutionContext): string | undefined => {
  return gatewayCallOf(context)?.key;
});
