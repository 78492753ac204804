import { SocketModule } from '@nestjs/websockets/socket-module.js';

const { getContextCreator } = SocketModule.prototype as unknown as {
  getContextCreator?: (...args: unknown[]) => unknown;
};

/**
 * Whether this version of Nest gives gateways the application's configuration, as 12 does: then it runs the global
 * guards, pipes and interceptors on them by itself, and makes request-scoped gateways per connection. 11 does neither.
 * Where it can't be told the newer behaviour is assumed, so that nothing runs twice.
 */
export const GATEWAYS_ARE_CONFIGURED = getContextCreator === undefined || getContextCreator.length > 1;
