import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, rm } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { cleanEnv, inPackages, root, run } from './support/command.js';
import { packTarball, type Tarball } from './support/tarball.js';

/** What every page that has a client loads, and what a page loads besides where WebSocket does not open. */
const CLIENT_LIMIT_BYTES = 9 * 1024;
const HTTP_LIMIT_BYTES = 5 * 1024;
const SHARED_LIMIT_BYTES = 4 * 1024;

describe('the packed tarball', () => {
  let tarball: Tarball;
  beforeAll(async () => {
    tarball = await packTarball();
  }, 60_000);
  afterAll(() => tarball.dispose());

  it('holds the two builds, their types and the documents, and nothing else', () => {
    const allowed =
      /^(dist\/(esm|cjs)\/.+\.(js|js\.map|d\.ts)|dist\/cjs\/package\.json|package\.json|(README|CHANGELOG)\.md|LICENSE)$/;
    expect(tarball.contents.filter((file) => !allowed.test(file))).toEqual([]);
    expect(tarball.contents).toEqual(expect.arrayContaining(['LICENSE', 'README.md', 'CHANGELOG.md']));
  });

  it('has every file that the exports map names', async () => {
    const { exports } = JSON.parse(await readFile(path.join(root, 'package.json'), 'utf8')) as { exports: unknown };
    const named = JSON.stringify(exports).match(/\.\/[^"]*\.[a-z]+(?=")/g) ?? [];
    const missing = named.map((file) => file.slice(2)).filter((file) => !tarball.contents.includes(file));
    expect(missing).toEqual([]);
  });

  it('is clean to publint', async () => {
    const printed = await run('node', [inPackages('publint/src/cli.js'), 'run', tarball.file, '--strict']);
    expect(printed).toContain('All good!');
  }, 60_000);

  it('is clean to "are the types wrong", in every resolution mode', async () => {
    const printed = await run('node', [inPackages('@arethetypeswrong/cli/dist/index.js'), tarball.file, '--no-color']);
    expect(printed).toContain('No problems found');
  }, 60_000);
});

describe('the command line', () => {
  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('ends soon at the first %s, with %d', async (signal, code) => {
    const silent = createServer((socket) => socket.on('error', () => undefined).resume()).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const url = `http://127.0.0.1:${(silent.address() as AddressInfo).port}/realtime`;
    const args = [path.join(root, 'dist/esm/cli/main.js'), 'publish', 'news', 'said', '--url', url];
    const child = spawn(process.execPath, args, { env: cleanEnv, stdio: 'ignore' });
    const exited = once(child, 'exit');
    await once(silent, 'connection');
    child.kill(signal);
    expect(await exited).toEqual([code, null]);
    const closed = once(silent, 'close');
    silent.close();
    await closed;
  });
});

describe('the client in a bundle', () => {
  interface Chunk {
    readonly imports: readonly { path: string; kind: string; external?: boolean }[];
    readonly inputs: Readonly<Record<string, unknown>>;
    readonly entryPoint?: string;
  }
  const folder = path.join(root, '.build/client-bundle');
  let chunks: Record<string, Chunk>;
  beforeAll(async () => {
    const entry = path.join(root, 'dist/esm/client/index.js');
    const metafile = path.join(folder, 'meta.json');
    await rm(folder, { recursive: true, force: true });
    const options = ['--bundle', '--splitting', '--minify', '--format=esm', '--platform=browser'];
    await run(inPackages('.bin/esbuild'), [entry, ...options, `--outdir=${folder}`, `--metafile=${metafile}`]);
    chunks = (JSON.parse(await readFile(metafile, 'utf8')) as { outputs: typeof chunks }).outputs;
  }, 60_000);
  afterAll(() => rm(folder, { recursive: true, force: true }));

  /** The chunk of a module, and what a browser loads with it; `known` was loaded before. */
  function loadedWith(module: string, known: ReadonlySet<string> = new Set()): Set<string> {
    const first = Object.keys(chunks).find((file) => chunks[file]!.entryPoint?.endsWith(module));
    const loaded = new Set([first!]);
    for (const file of loaded) {
      for (const { path: next, kind } of chunks[file]!.imports) {
        if (kind === 'import-statement' && !known.has(next)) loaded.add(next);
      }
    }
    return loaded;
  }

  async function gzipped(files: ReadonlySet<string>): Promise<number> {
    const sizes = [...files].map(async (file) => gzipSync(await readFile(path.join(root, file)), { level: 9 }).length);
    return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
  }

  it('loads no more than 9 KB at first, minified and gzipped, and what few need when they do', async () => {
    const first = loadedWith('client/index.js');
    const later = loadedWith('client/http.transports.js', first);
    const shared = loadedWith('client/shared.transport.js', first);
    const sizes = { first: await gzipped(first), later: await gzipped(later), shared: await gzipped(shared) };
    console.info(
      `The client, gzipped: ${sizes.first} bytes at first, ${sizes.later} for the transports over HTTP, ` +
        `${sizes.shared} for tabs that share a connection`,
    );
    expect(sizes.first).toBeLessThanOrEqual(CLIENT_LIMIT_BYTES);
    expect(sizes.later).toBeLessThanOrEqual(HTTP_LIMIT_BYTES);
    expect(sizes.shared).toBeLessThanOrEqual(SHARED_LIMIT_BYTES);
    const modules = [...first].flatMap((file) => Object.keys(chunks[file]!.inputs));
    expect(modules.filter((module) => /sse|poll|upstream|shared/.test(module))).toEqual([]);
  });

  it('depends on nothing', () => {
    for (const { imports } of Object.values(chunks)) {
      expect(imports.filter(({ external }) => external)).toEqual([]);
    }
  });
});
