import type { INestApplication, ModuleMetadata } from '@nestjs/common';
import { startApp, type Platform } from './platforms.js';

/** The lines of the error with which an application does not start; none where it does. */
export async function bootFailure(
  platform: Platform,
  metadata: ModuleMetadata,
  prepare?: (app: INestApplication) => void | Promise<void>,
): Promise<string[]> {
  const outcome = await startApp(platform, metadata, prepare).catch((error: unknown) => error as Error);
  if (!('app' in outcome)) return outcome.message.split('\n');
  await outcome.close();
  return [];
}
