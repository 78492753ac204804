import { createRequire } from 'node:module';

/** 11 in the jest project `e2e-nest11`, 12 in `e2e`. For the few places where the two legitimately differ. */
export const nestMajor = Number(
  (createRequire(import.meta.url)('@nestjs/core/package.json') as { version: string }).version.split('.')[0],
);
