import type { INestApplication } from '@nestjs/common';
import type { AddressInfo } from 'node:net';

/** The port where an application listens; `undefined` while it does not. */
export function portOf(target: INestApplication | number): number | undefined {
  if (typeof target === 'number') return target;
  const server = target.getHttpServer() as { address?(): AddressInfo | string | null } | undefined;
  const address = server?.address?.();
  return typeof address === 'object' && address !== null ? address.port : undefined;
}
