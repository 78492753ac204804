import { Catch, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common';
import { BaseWsExceptionFilter } from '@nestjs/websockets';
import { isHookCall } from './channel-hook.js';
import { describeError } from './describe-error.js';
import { gatewayCallOf } from './gateway-call.js';
import { hookPassOf } from './gateway-hooks.js';

/**
 * Answers the peer with the code and details of an exception: what runs where no filter of the application takes it.
 * Extend it to log or translate: `super.catch(exception, host)` sends the answer, with the id of the request.
 */
@Catch()
export class BaseRealtimeExceptionFilter implements ExceptionFilter {
  /**
   * Answers. Nothing happens on a channel gateway: what its hooks throw refuses, and is answered in any case. Away from a
   * hub's gateways it does what Nest's own filter does.
   */
  catch(exception: unknown, host: ArgumentsHost): void {
    if (isHookCall(host)) return;
    const call = gatewayCallOf(host);
    if (call !== undefined) {
      call.fail(describeError(exception), exception);
      return;
    }
    const pass = hookPassOf(host.getArgByIndex(0));
    if (pass !== undefined) pass.failed(exception);
    else new BaseWsExceptionFilter({ includeCause: false }).catch(exception, host);
  }
}
