import type { INestApplication, ModuleMetadata } from '@nestjs/common';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import type { AddressInfo } from 'node:net';
import { WatchedLogger } from '../../support/watched-logger.js';

/** The HTTP platforms that every e2e suite runs on: `describe.each(platforms)('… on $name', (platform) => …)`. */
export const platforms = [
  { name: 'express', createAdapter: () => new ExpressAdapter() },
  { name: 'fastify', createAdapter: () => new FastifyAdapter() },
] as const;

export type Platform = (typeof platforms)[number];

export interface RunningApp {
  readonly app: INestApplication;
  readonly port: number;
  readonly url: string;
  close(): Promise<void>;
}

/** Builds a module, listens on a free port of the loopback interface and returns where. The caller closes it. */
export async function startApp(
  platform: Platform,
  metadata: ModuleMetadata,
  prepare?: (app: INestApplication) => void | Promise<void>,
): Promise<RunningApp> {
  const module = await Test.createTestingModule(metadata).compile();
  const app = module.createNestApplication(platform.createAdapter() as ExpressAdapter, { logger: new WatchedLogger() });
  try {
    await prepare?.(app);
    await app.listen(0, '127.0.0.1');
  } catch (error) {
    await app.close();
    throw error;
  }
  const { port } = (app.getHttpServer() as { address(): AddressInfo }).address();
  return { app, port, url: `http://127.0.0.1:${String(port)}`, close: () => app.close() };
}
