import type { Type } from '@nestjs/common';

/*
 * The keys under which Nest's decorators keep what they were told. They are the same text in 11 and 12; the modules that
 * export them are not.
 */
export const GATEWAY = 'websockets:is_gateway';
export const GUARDS = '__guards__';
export const PIPES = '__pipes__';
export const INTERCEPTORS = '__interceptors__';
export const FILTERS = '__exceptionFilters__';
/** What decorators of parameters say, pipes included; on the class, by the method's name. */
export const PARAMETERS = '__routeArguments__';
/** Has Nest give a class the application's request-scoped guards, pipes and interceptors. */
export const ENTRY_PROVIDER = '__entryProvider__';
/** Which exceptions a filter takes; on its class. */
export const CATCHES = '__filterCatchExceptions__';
/** What `@ConnectedSocket()` and `@MessageBody()` write into the metadata of parameters. */
export const SOCKET_PARAM = 0;
export const PAYLOAD_PARAM = 3;
const GATEWAY_OPTIONS = 'websockets:gateway_options';
const GATEWAY_PORT = 'port';
const IS_HANDLER = 'websockets:message_mapping';
const HANDLER_EVENT = 'message';
const IS_SERVER = 'websockets:is_socket';

export type Method = (this: unknown, ...args: unknown[]) => unknown;

/** What `@WebSocketGateway()` was given, as far as it means something here. */
export interface GatewayOptions {
  readonly path?: string;
  readonly namespace?: unknown;
}

export function gatewayOptionsOf(metatype: Type): GatewayOptions {
  return (Reflect.getMetadata(GATEWAY_OPTIONS, metatype) as GatewayOptions | undefined) ?? {};
}

/** The port of a gateway that has a server of its own; 0: the application's. */
export function gatewayPortOf(metatype: Type): number {
  return (Reflect.getMetadata(GATEWAY_PORT, metatype) as number | undefined) ?? 0;
}

/** The path of an endpoint, with one leading slash and none at its end; `preset` where the gateway names none. */
export function endpointPath(path: unknown, preset: string): string {
  if (typeof path !== 'string' || path === '') return preset; // Nest binds before the module says what is wrong
  return `/${path.replace(/^\/+|\/+$/g, '')}`;
}

/** The methods of a class, those of its base classes included, by their names. */
export function methodsOf(metatype: Type): Map<string, Method> {
  const methods = new Map<string, Method>();
  let prototype = metatype.prototype as object | null;
  while (prototype !== null && prototype !== Object.prototype) {
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(prototype))) {
      if (name !== 'constructor' && typeof value === 'function' && !methods.has(name)) {
        methods.set(name, value as Method);
      }
    }
    prototype = Object.getPrototypeOf(prototype) as object | null;
  }
  return methods;
}

/** The events that the `@SubscribeMessage()` methods of a class take. */
export function eventsOf(metatype: Type): { readonly method: string; readonly event: unknown }[] {
  return [...methodsOf(metatype)]
    .filter(([, method]) => Reflect.hasMetadata(IS_HANDLER, method))
    .map(([name, method]) => ({ method: name, event: Reflect.getMetadata(HANDLER_EVENT, method) as unknown }));
}

/** The properties of a gateway that have `@WebSocketServer()`. */
export function serverPropertiesOf(gateway: object): string[] {
  const found: string[] = [];
  // As Nest does: inherited ones too.
  for (const name in gateway) if (Reflect.hasMetadata(IS_SERVER, gateway, name)) found.push(name);
  return found;
}

/** A list under a metadata key, inherited ones included. */
export function metadataList(key: string, target: object): readonly unknown[] {
  return (Reflect.getMetadata(key, target) as unknown[] | undefined) ?? [];
}

/** A stand-in for a method, with its name and everything that decorators said of it. */
export function standIn(method: Method, wrapper: Method): Method {
  Object.defineProperty(wrapper, 'name', { value: method.name, configurable: true });
  Object.defineProperty(wrapper, 'length', { value: method.length, configurable: true });
  for (const key of Reflect.getMetadataKeys(method) as unknown[]) {
    Reflect.defineMetadata(key, Reflect.getMetadata(key, method), wrapper);
  }
  return wrapper;
}
