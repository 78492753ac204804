import { Injectable, type ExecutionContext } from '@nestjs/common';
import { ThrottlerException, ThrottlerGuard, type ThrottlerLimitDetail } from '@nestjs/throttler';
import type { Connection } from '../hub/connection.js';

/** How often a connection went over a limit, until when that counts. */
interface Violations {
  readonly until: number;
  count: number;
}

/**
 * `@nestjs/throttler`'s guard for gateways, channel hooks, handshakes and HTTP alike: as `APP_GUARD`, on classes and
 * methods, in `connectionGuards`. `@Throttle()`, `@SkipThrottle()`, named throttlers, `blockDuration` and every storage work
 * as they do for HTTP.
 *
 * - Frames are counted by the user of the connection, else by the connection. Who is over the limit gets `rate_limited` with
 *   `retryAfterMs`, and no header is set. A connection that goes on, more than ten times within the throttler's `ttl`, is
 *   closed with 4529.
 * - HTTP requests and handshakes are counted by address, as the stock guard does; for handshakes that is the address behind
 *   `trustedProxies`.
 * - Contexts of other types, such as those of microservices, pass.
 */
@Injectable()
export class RealtimeThrottlerGuard extends ThrottlerGuard {
  /** How often a connection may go over a limit within the throttler's `ttl`; past it it is closed with 4529. */
  protected maxViolations = 10;
  readonly #violations = new WeakMap<object, Violations>();

  override canActivate(context: ExecutionContext): Promise<boolean> {
    const type = context.getType();
    return type === 'http' || type === 'ws' ? super.canActivate(context) : Promise.resolve(true);
  }

  /** A frame has no response: what would be set on it goes nowhere. */
  protected override getRequestResponse(context: ExecutionContext): ReturnType<ThrottlerGuard['getRequestResponse']> {
    if (context.getType() !== 'ws') return super.getRequestResponse(context);
    return { req: context.switchToWs().getClient<Connection>(), res: {} };
  }

  /** Whom a request counts for: of a frame the user, else the connection; else the address. */
  protected override getTracker(request: Record<string, unknown>, context?: ExecutionContext): Promise<string> {
    if (context?.getType() !== 'ws') return super.getTracker(request);
    const { user, id } = context.switchToWs().getClient<Connection>();
    return Promise.resolve(user === undefined ? `connection:${id}` : `user:${user.id}`);
  }

  protected override async throwThrottlingException(
    context: ExecutionContext,
    detail: ThrottlerLimitDetail,
  ): Promise<void> {
    const seconds = detail.timeToBlockExpire > 0 ? detail.timeToBlockExpire : detail.timeToExpire;
    const retryAfterMs = Math.max(1, seconds) * 1_000;
    const exception = new ThrottlerException(await this.getErrorMessage(context, detail));
    if (context.getType() === 'ws') this.#violated(context.switchToWs().getClient(), detail.ttl, retryAfterMs);
    throw Object.assign(exception, { retryAfterMs });
  }

  #violated(connection: Connection, ttl: number, retryAfterMs: number): void {
    const now = Date.now();
    let violations = this.#violations.get(connection);
    if (violations === undefined || violations.until <= now || violations.until > now + ttl) {
      this.#violations.set(connection, (violations = { until: now + ttl, count: 0 }));
    }
    violations.count++;
    if (violations.count > this.maxViolations) connection.fail('rate_limited', retryAfterMs);
  }
}
