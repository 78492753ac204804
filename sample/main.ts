import 'reflect-metadata';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { AppModule } from './app.module.js';
import { port, trustedProxies } from './environment.js';

const app = await NestFactory.create<NestExpressApplication>(AppModule, { logger: ['warn', 'error'] });

app.set('trust proxy', trustedProxies); // for the address of whoever signs in at /admin/sign-in

// The page, and the client library as the ES modules of the package: no bundler in between.
const here = path.dirname(fileURLToPath(import.meta.url));
const client = path.dirname(fileURLToPath(import.meta.resolve('nestjs-realtime/client')));
app.useStaticAssets(path.join(here, 'public'));
app.useStaticAssets(client, { prefix: '/lib/client' });
app.useStaticAssets(path.join(client, '../protocol'), { prefix: '/lib/protocol' });

app.enableShutdownHooks(); // so that deploys drain
try {
  await app.listen(port); // the port opens when peers are accepted
} catch (error) {
  if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
  console.error(`Port ${port} is in use. Set PORT to another one: PORT=${port + 1} npm start`);
  process.exit(1);
}
console.log(`nestjs-realtime demo: http://localhost:${new URL(await app.getUrl()).port}`);
