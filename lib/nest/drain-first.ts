import type { ModulesContainer } from '@nestjs/core';
import type { Hub } from '../hub/hub.js';
import { CHANNEL_GATEWAY } from './channel.decorators.js';
import { GATEWAY } from './gateway-metadata.js';

interface Destroyable {
  onModuleDestroy?: () => unknown;
}

/**
 * Has the hub drain before any module that holds a gateway is destroyed: disconnection hooks may still use the database,
 * whose module Nest destroys later. Nest destroys a module's providers first, and waits for them, so the hook goes on
 * the gateways themselves.
 */
export function drainFirst(modules: ModulesContainer, hub: Hub): void {
  for (const module of modules.values()) {
    for (const { metatype, instance } of module.providers.values()) {
      if (typeof metatype !== 'function' || typeof instance !== 'object' || instance === null) continue;
      if (!Reflect.hasMetadata(GATEWAY, metatype) && !Reflect.hasMetadata(CHANNEL_GATEWAY, metatype)) continue;
      const gateway = instance as Destroyable;
      const own = gateway.onModuleDestroy?.bind(gateway);
      Object.defineProperty(gateway, 'onModuleDestroy', {
        configurable: true,
        writable: true,
        value: async () => {
          await hub.drain();
          await own?.();
        },
      });
    }
  }
}
