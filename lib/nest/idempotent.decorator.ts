import { SetMetadata, type Type } from '@nestjs/common';

/** Metadata of {@link Idempotent} on the method. */
const IDEMPOTENT = 'nestjs-realtime:idempotent';

/**
 * Says that a handler (`@SubscribeMessage()`) may run again for a frame that it may have handled: where a node died
 * while it ran, over a transport whose peers repeat what they sent. Use `@SendKey()` to recognise such a frame.
 * Without it nobody runs again what may have run, and the peer is answered `outcome_unknown`.
 */
export function Idempotent(): MethodDecorator {
  return SetMetadata(IDEMPOTENT, true);
}

/** Whether a method of a class may run again. */
export function isIdempotent(metatype: Type, method: string): boolean {
  const handler = (metatype.prototype as Record<string, object>)[method];
  return handler !== undefined && Reflect.getMetadata(IDEMPOTENT, handler) === true;
}
