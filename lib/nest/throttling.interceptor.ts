import { Injectable, type CallHandler, type ExecutionContext, type NestInterceptor } from '@nestjs/common';
import type { Observable } from 'rxjs';
import { RealtimeThrottlerGuard } from './throttler.guard.js';

/**
 * What {@link RealtimeThrottlerGuard} does, as an interceptor: for a gateway or channel gateway that is bound by
 * `@UseInterceptors()`, behind its guards, so that what they refuse does not count.
 */
@Injectable()
export class ThrottlingInterceptor extends RealtimeThrottlerGuard implements NestInterceptor {
  async intercept(context: ExecutionContext, next: CallHandler): Promise<Observable<unknown>> {
    await this.canActivate(context);
    return next.handle() as Observable<unknown>;
  }
}
