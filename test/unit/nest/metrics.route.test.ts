import { describe, expect, it } from '@jest/globals';
import type { CanActivate } from '@nestjs/common';
import type { ModuleRef } from '@nestjs/core';
import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { memoryBroker } from '../../../lib/brokers/memory.broker.js';
import type { MetricsPage } from '../../../lib/hub/ports/metrics.js';
import { resolveSettings } from '../../../lib/hub/settings.js';
import { MetricsRoute } from '../../../lib/nest/metrics.route.js';
import { ManualClock } from '../../../lib/testing/manual-clock.js';

/** The route, with a guard and pages of a test's own. */
class Rig {
  readonly clock = new ManualClock();
  readonly #route: MetricsRoute;

  constructor(canActivate: CanActivate['canActivate'], page: () => Promise<MetricsPage>) {
    const log = { warn: () => undefined, error: () => undefined };
    const settings = resolveSettings({ broker: memoryBroker(), clock: this.clock, log });
    const hub = { node: 'a-node', settings, now: () => this.clock.now() };
    const session = { page, close: () => undefined };
    this.#route = new MetricsRoute(session, [{ canActivate }], {} as ModuleRef, { trustedProxies: 0 }, hub);
  }

  /** Resolves with the status, or what the route was given up with. */
  async ask(): Promise<unknown> {
    const request = Object.assign(new IncomingMessage(new Socket()), { method: 'GET' });
    const response = new ServerResponse(request);
    const exchange = { request, response, query: new URLSearchParams(), refuse: () => undefined };
    try {
      await this.#route.serve(exchange);
      return response.statusCode;
    } catch (error) {
      return String(error);
    }
  }
}

const never = (): Promise<never> => new Promise(() => undefined);

describe('GET {path}/metrics', () => {
  it.each<[what: string, ...parts: ConstructorParameters<typeof Rig>]>([
    ['The guards of a route', never, never],
    ['The page of the metrics', () => true, never],
  ])('is given up after 10 s: %s', async (what, ...parts) => {
    const rig = new Rig(...parts);
    let told: unknown;
    void rig.ask().then((outcome) => (told = outcome));
    await rig.clock.pass(9_999);
    expect(told).toBeUndefined();
    await rig.clock.pass(1);
    expect(told).toBe(`Error: ${what} took longer than 10000 ms: it was refused`);
    expect(rig.clock.waiting).toBe(0);
  });

  it('makes a page anew where the last one was given up', async () => {
    const pages = [never, () => Promise.resolve({ contentType: 'text/plain', body: 'page' })];
    const rig = new Rig(
      () => true,
      () => pages.shift()!(),
    );
    const first = rig.ask();
    await rig.clock.pass(10_000);
    expect(await first).toContain('took longer than 10000 ms');
    expect(await rig.ask()).toBe(200);
  });
});
