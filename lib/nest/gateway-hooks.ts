import type { Type } from '@nestjs/common';
import type { Connection } from '../hub/connection.js';
import { standIn, type Method } from './gateway-metadata.js';

/** The connection hooks of a gateway that Nest calls without looking at what becomes of them. */
export type GatewayHook = 'handleConnection' | 'handleDisconnect';

export const GATEWAY_HOOKS: readonly GatewayHook[] = ['handleConnection', 'handleDisconnect'];

const PASS = Symbol.for('nestjs-realtime:hook-pass');
const WRAPPED = Symbol.for('nestjs-realtime:wrapped-hook');

/** Where the hooks of one connection report to while its application is being told of it. */
export interface HookPass {
  readonly [PASS]: true;
  /** A hook was called by Nest; `call` runs it. Returns what Nest gets. */
  hook(name: GatewayHook, gateway: object, call: () => unknown): unknown;
  /** A hook could not be called, as its request-scoped gateway could not be made. */
  failed(error: unknown): void;
}

/** Marks a class as a pass that hooks of any copy of the package recognise. */
export const HOOK_PASS: typeof PASS = PASS;

/** The pass that a client is in, if it is a connection of a hub at all. */
export function hookPassOf(client: unknown): HookPass | undefined {
  if (typeof client !== 'object' || client === null) return undefined;
  const { binding } = client as { binding?: Partial<HookPass> };
  return binding?.[PASS] === true ? (binding as HookPass) : undefined;
}

/**
 * Makes the connection hooks of a gateway tell the client's hub what becomes of them: Nest calls them and drops their
 * promises and throws. Once per class; the stand-ins hold nothing of an application, so that a client of no hub finds
 * the plain method.
 */
export function wrapHooks(metatype: Type, instance: unknown, scoped: boolean): void {
  for (const name of GATEWAY_HOOKS) {
    // Nest makes a request-scoped gateway for a hook that it hasn't got, and rejects into nothing where that fails.
    if (scoped && !(name in (metatype.prototype as object)))
      define(metatype.prototype as object, name, () => undefined);
    wrap(metatype.prototype as object, name);
    // A hook that is a property is the instance's own.
    if (typeof instance === 'object' && instance !== null && Object.hasOwn(instance, name)) wrap(instance, name);
  }
}

function wrap(owner: object, name: GatewayHook): void {
  const method = (owner as Partial<Record<string, Method>>)[name];
  if (typeof method !== 'function' || Object.hasOwn(method, WRAPPED)) return;
  const wrapper = standIn(
    method,
    name === 'handleConnection'
      ? function (this: unknown, ...args: unknown[]): unknown {
          const pass = hookPassOf(args[0]);
          if (pass === undefined) return method.apply(this, args);
          return pass.hook(name, this as object, () => method.apply(this, args));
        }
      : function (this: unknown, ...args: unknown[]): unknown {
          const pass = hookPassOf(args[0]);
          if (pass === undefined) return method.apply(this, args);
          const client = args[0] as Connection;
          return pass.hook(name, this as object, () => method.call(this, client, client.closed?.reason ?? ''));
        },
  );
  Object.defineProperty(wrapper, WRAPPED, { value: true });
  define(owner, name, wrapper);
}

function define(owner: object, name: GatewayHook, method: Method): void {
  Object.defineProperty(owner, name, { value: method, writable: true, configurable: true });
}
