import { Connector } from './connector.js';
import { lazyTransport } from './lazy.transport.js';
import { resolveOptions, type ClientOptions, type ResolvedOptions } from './options.js';
import type { SharedTransport } from './shared.transport.js';

/** The options of a client. One that shares its connection has one transport, and the connection the others. */
export function resolveShared(url: string | URL, options: ClientOptions): ResolvedOptions {
  const own = resolveOptions(url, options);
  const { share } = options;
  const { navigator, origin } = globalThis as { navigator?: Partial<Navigator>; origin?: string };
  // An opaque origin (a sandboxed frame) has locks and is refused them.
  if (share === undefined || !navigator?.locks || origin === 'null') return own;
  let shared: SharedTransport | undefined;
  let wake = () => {};
  return {
    ...resolveOptions(url, { ...options, storage: null }),
    transports: [
      lazyTransport('shared', async () => {
        const { SharedTransport } = await import('./shared.transport.js');
        return (shared ??= new SharedTransport(
          share,
          own.url,
          (host) => new Connector(own, host),
          () => wake(),
        ));
      }),
    ],
    wakeUps(fn) {
      wake = fn;
      const stop = own.wakeUps(fn);
      return () => {
        stop();
        shared?.leave();
      };
    },
  };
}
