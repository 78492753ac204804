import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { cleanEnv, root, run } from './support/command.js';
import { createFreshApp, type FreshApp } from './support/fresh-app.js';
import { packTarball, type Tarball } from './support/tarball.js';

const INSTALL_MS = 300_000;
const START_MS = 30_000;

let tarball: Tarball;
beforeAll(async () => {
  tarball = await packTarball();
}, INSTALL_MS);
afterAll(() => tarball.dispose());

const apps = [
  { title: 'Nest 11, CommonJS, Express', name: 'nest11-express-cjs', nest: 11 },
  { title: 'Nest 12, ECMAScript modules, Fastify', name: 'nest12-fastify-esm', nest: 12 },
] as const;

describe.each(apps)('the tarball in a fresh application ($title)', ({ name, nest }) => {
  let app: FreshApp;
  beforeAll(async () => {
    app = await createFreshApp(name, nest, tarball.file);
  }, INSTALL_MS);
  afterAll(() => app.dispose());

  it(
    'runs the quick start: a client subscribes, publishes and receives',
    async () => {
      const server = await startServer(app.directory);
      try {
        const client = spawn(process.execPath, ['dist/client.js'], {
          cwd: app.directory,
          env: { ...cleanEnv, REALTIME_URL: `http://127.0.0.1:${server.port}/realtime` },
          stdio: ['ignore', 'pipe', 'inherit'],
          timeout: START_MS,
        });
        const [line] = (await once(createInterface(client.stdout), 'line')) as [string];
        client.kill();
        expect(line).toBe('received: hello');
      } finally {
        await server.stop();
      }
    },
    START_MS * 3,
  );

  it('has a command line', async () => {
    const stdout = await run(path.join(app.directory, 'node_modules/.bin/nestjs-realtime'), ['tail', '--help']);
    expect(stdout).toContain('nestjs-realtime tail CHANNEL');
  });

  it('gives the same classes to `import` and to `require`', async () => {
    const script = `
      import { createRequire } from 'node:module';
      const require = createRequire(process.cwd() + '/package.json');
      for (const entry of ['nestjs-realtime', 'nestjs-realtime/client', 'nestjs-realtime/jwt', 'nestjs-realtime/testing']) {
        const [imported, required] = [await import(entry), require(entry)];
        const names = Object.keys(imported).filter((name) => name !== 'default' && name !== 'module.exports');
        if (names.length === 0) throw new Error(entry + ' exports nothing');
        for (const name of names) if (imported[name] !== required[name]) throw new Error(entry + ': two copies of ' + name);
      }
      console.log('same');`;
    const printed = await run('node', ['--input-type=module', '-e', script], { cwd: app.directory });
    expect(printed.trim()).toBe('same');
  });

  it('has a CommonJS copy that loads and exports the same names, for tools that know neither condition', async () => {
    const script = `
      const names = (module) => JSON.stringify(Object.keys(module).filter((name) => name !== '__esModule').sort());
      for (const entry of ['index.js', 'client/index.js', 'jwt.js', 'testing/index.js']) {
        const at = process.cwd() + '/node_modules/nestjs-realtime/dist/';
        if (names(require(at + 'cjs/' + entry)) !== names(require(at + 'esm/' + entry))) throw new Error(entry);
      }
      console.log('same');`;
    const printed = await run('node', ['--input-type=commonjs', '-e', script], { cwd: app.directory });
    expect(printed.trim()).toBe('same');
  });

  it('has a test kit that needs no runner', async () => {
    const script = `
      import 'reflect-metadata';
      import { NestFactory } from '@nestjs/core';
      import { createTestClient, FaultyLink } from 'nestjs-realtime/testing';
      import { AppModule } from './dist/app.module.js';
      const fastify = await import('@nestjs/platform-fastify').catch(() => undefined);
      const adapter = fastify ? [new fastify.FastifyAdapter()] : [];
      const app = await NestFactory.create(AppModule, ...adapter, { logger: false });
      await app.listen(0, '127.0.0.1');
      for (const transport of ['websocket', 'sse', 'long-polling']) {
        const link = await FaultyLink.open(app);
        const client = await createTestClient(app, { transport, through: link, channels: ['chat.' + transport] });
        const other = await createTestClient(app);
        await other.publish('chat.' + transport, 'message', { text: transport });
        link.drop();
        console.log((await client.next('message')).data.text);
        for (const end of [client, other, link]) await end.close();
      }
      await app.close();`;
    const printed = await run('node', ['--input-type=module', '-e', script], { cwd: app.directory });
    expect(printed.trim().split('\n')).toEqual(['websocket', 'sse', 'long-polling']);
  });

  it('takes JSON Web Tokens in CommonJS, by the exports map and by the CommonJS copy', async () => {
    const script = `
      const { SignJWT } = require('jose');
      const secret = 'x'.repeat(32);
      const key = new TextEncoder().encode(secret);
      (async () => {
        const token = await new SignJWT({ sub: 'ann' }).setProtectedHeader({ alg: 'HS256' }).sign(key);
        const copy = process.cwd() + '/node_modules/nestjs-realtime/dist/cjs/jwt.js';
        for (const entry of ['nestjs-realtime/jwt', copy]) {
          const user = await require(entry).jwtAuth({ secret }).authenticate({ token, source: 'header' });
          console.log(user.id);
        }
      })();`;
    const printed = await run('node', ['--input-type=commonjs', '-e', script], { cwd: app.directory });
    expect(printed.trim().split('\n')).toEqual(['ann', 'ann']);
  });
});

it('is shown in the README as it was run here', async () => {
  const readme = await readFile(path.join(root, 'README.md'), 'utf8');
  const folder = path.join(root, 'test/package/quickstart');
  const files = (await readdir(path.join(folder, 'src'))).map((file) => path.join(folder, 'src', file));
  for (const file of [...files, path.join(folder, 'nest11-express-cjs/src/main.ts')]) {
    expect(readme).toContain((await readFile(file, 'utf8')).trim());
  }
});

/** Starts dist/main.js on a free port; resolves once peers are accepted: a plain GET is told to upgrade. */
async function startServer(directory: string): Promise<{ port: number; stop(): Promise<void> }> {
  const port = await freePort();
  const child = spawn(process.execPath, ['dist/main.js'], {
    cwd: directory,
    env: { ...cleanEnv, PORT: String(port) },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let printed = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => (printed += chunk.toString()));
  const deadline = Date.now() + START_MS;
  for (;;) {
    const status = await fetch(`http://127.0.0.1:${port}/realtime`)
      .then((response) => response.status)
      .catch(() => 0);
    if (status === 426) return { port, stop: () => stop(child) };
    if (child.exitCode !== null || Date.now() > deadline) {
      await stop(child);
      throw new Error(`the application did not accept peers (last status ${status}):\n${printed}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Ends a server as a deployment does: SIGTERM, and a clean exit is expected. */
async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  const killer = setTimeout(() => child.kill('SIGKILL'), 15_000);
  const [, signal] = (await exited) as [number | null, NodeJS.Signals | null];
  clearTimeout(killer);
  expect(signal).not.toBe('SIGKILL');
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
