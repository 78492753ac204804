import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { createServer, type RequestListener } from 'node:http';
import { platforms, type Platform } from '../../e2e/support/platforms.js';

/** Node's own patience with requests, which is a minute for a head and five for a body, made short. */
const PATIENCE = { headersTimeout: 1_000, requestTimeout: 2_000, connectionsCheckingInterval: 20 };

class ImpatientExpressAdapter extends ExpressAdapter {
  override initHttpServer(): void {
    this.httpServer = createServer(PATIENCE, this.getInstance());
  }
}

/** The platforms on servers that lose patience soon. */
export const impatientPlatforms: Platform[] = [
  { ...platforms[0], createAdapter: () => new ImpatientExpressAdapter() },
  {
    ...platforms[1],
    createAdapter: () =>
      new FastifyAdapter({
        requestTimeout: PATIENCE.requestTimeout,
        serverFactory: (handler: RequestListener) => createServer(PATIENCE, handler),
      }),
  },
];
