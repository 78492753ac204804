import type { Type } from '@nestjs/common';
import type { ModulesContainer } from '@nestjs/core';
import { show, type Mistake } from '../hub/settings.js';
import { endpointPath, eventsOf, GATEWAY, gatewayOptionsOf, gatewayPortOf } from './gateway-metadata.js';
import { findProvidedClasses, type ProvidedClass } from './provided-classes.js';

/**
 * Finds what is wrong with the gateways of an application, all of it at once: what Nest would drop without a word, and
 * what its adapters leave to Socket.IO. Call it when the module starts, with the path of gateways that name none.
 */
export function findGatewayMistakes(modules: ModulesContainer, preset: string): Mistake[] {
  const mistakes: Mistake[] = [];
  const gateways = findProvidedClasses(modules, GATEWAY, mistakes);
  for (const gateway of gateways) mistakes.push(...mistakesOf(gateway));
  return [...mistakes, ...findAmbiguities(gateways, preset)];
}

/** A request has one answer, so an event has one handler at an endpoint. */
function findAmbiguities(gateways: readonly ProvidedClass[], preset: string): Mistake[] {
  const takers = new Map<string, Type>();
  const mistakes: Mistake[] = [];
  for (const { metatype } of gateways) {
    const endpoint = `${gatewayPortOf(metatype)}:${endpointPath(gatewayOptionsOf(metatype).path, preset)}`;
    for (const { event } of eventsOf(metatype)) {
      const key = `${endpoint} ${String(event)}`;
      const other = takers.get(key);
      if (other === undefined) takers.set(key, metatype);
      else
        mistakes.push({
          path: metatype.name,
          message: `takes ${show(event)}${other === metatype ? ' twice' : `, which ${other.name} takes at the same path`}`,
        });
    }
  }
  return mistakes;
}

function mistakesOf({ metatype }: ProvidedClass): Mistake[] {
  const { name } = metatype;
  const { namespace, path } = gatewayOptionsOf(metatype);
  const mistakes: Mistake[] = eventsOf(metatype)
    .filter(({ event }) => typeof event !== 'string' || event === '' || event.startsWith('$'))
    .map(({ method, event }) => ({
      path: `${name}.${method}`,
      message: `expected an event that is text and does not start with "$", which is reserved, got ${show(event)}`,
    }));
  if (namespace !== undefined) {
    mistakes.push({ path: name, message: 'has a `namespace`, which is Socket.IO; give it a `path` instead' });
  }
  if (path !== undefined && (typeof path !== 'string' || /[?#\s]/.test(path))) {
    mistakes.push({ path: name, message: `expected a path such as '/rooms/:id', got ${show(path)}` });
  }
  return mistakes;
}
