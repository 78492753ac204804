import { applyDecorators, createParamDecorator, Injectable, SetMetadata, type ExecutionContext } from '@nestjs/common';
import type { ChannelOptions } from '../hub/definition.js';
import type { Connection } from '../hub/connection.js';
import type { UserIdentity } from '../hub/identity.js';
import type { HookCall } from './channel-hook.js';
import { ENTRY_PROVIDER } from './gateway-metadata.js';

/** Metadata of {@link ChannelGateway} on the class. */
export const CHANNEL_GATEWAY = 'nestjs-realtime:channel-gateway';
/** Metadata of the hooks on their methods. */
export const CHANNEL_HOOK = 'nestjs-realtime:channel-hook';

/** What {@link ChannelGateway} says. */
export interface ChannelGatewayMetadata {
  readonly pattern: string;
  readonly options: ChannelOptions;
}

/** What a hook's decorator says. */
export type ChannelHookMetadata =
  { readonly kind: 'subscribe' | 'unsubscribe' } | { readonly kind: 'publish'; readonly event: string | undefined };

/**
 * Declares the channels of a pattern and makes the class their gateway. Its guards, pipes, interceptors and filters run
 * on every hook. Provide it as a class, in one module.
 * @param pattern Dot-separated; `:name` matches one segment. Of two patterns that match a channel the one with more
 * literal segments wins; a tie fails at boot.
 * @param options Default to the entry of the same pattern in the module's `channels`.
 */
export function ChannelGateway(pattern: string, options: ChannelOptions = {}): ClassDecorator {
  return applyDecorators(
    Injectable(),
    SetMetadata(ENTRY_PROVIDER, true),
    SetMetadata(CHANNEL_GATEWAY, { pattern, options } satisfies ChannelGatewayMetadata),
  );
}

/**
 * Runs before a peer is subscribed, and before it reads history or members without a subscription. Throw to refuse;
 * `false` refuses too. What it returns is the member's `info` for presence: JSON of at most 1 KiB, else null. Runs again
 * for a subscription whose peer has renewed its token with other claims: to refuse then ends it.
 */
export function OnSubscribe(): MethodDecorator {
  return SetMetadata(CHANNEL_HOOK, { kind: 'subscribe' } satisfies ChannelHookMetadata);
}

/**
 * Runs when a peer publishes. What it returns is published; `undefined` publishes nothing. Throw to refuse; `false`
 * refuses too.
 * @param event Which event. Without it: the events that no other hook of the class names. An event that no hook takes
 * is refused, unless the channel's options say `publish: true`.
 */
export function OnPublish(event?: string): MethodDecorator {
  return SetMetadata(CHANNEL_HOOK, { kind: 'publish', event } satisfies ChannelHookMetadata);
}

/** Runs after a subscription ended; `@MessageBody()` is why: `left`, `disconnected` or `removed`. */
export function OnUnsubscribe(): MethodDecorator {
  return SetMetadata(CHANNEL_HOOK, { kind: 'unsubscribe' } satisfies ChannelHookMetadata);
}

/** A parameter of the channel's pattern; in a controller, of the route. Pipes may follow. */
export const ChannelParam = createParamDecorator((name: string, context: ExecutionContext): string | undefined => {
  if (context.getType() === 'http') {
    return context.switchToHttp().getRequest<{ params?: Record<string, string> }>().params?.[name];
  }
  return context.getArgByIndex<HookCall | undefined>(2)?.match?.params[name];
});

/** Who the peer is, or one property of that; in a controller, `request.user`. `undefined` where it is anonymous. */
export const Identity = createParamDecorator((property: string | undefined, context: ExecutionContext): unknown => {
  const user =
    context.getType() === 'http'
      ? context.switchToHttp().getRequest<{ user?: UserIdentity }>().user
      : context.switchToWs().getClient<Connection>().user;
  return property === undefined ? user : (user as Record<string, unknown> | undefined)?.[property];
});
