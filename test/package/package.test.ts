import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { inPackages, root, run } from './support/command.js';
import { packTarball, type Tarball } from './support/tarball.js';

const CLIENT_LIMIT_BYTES = 9 * 1024;

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

describe('the client in a bundle', () => {
  async function bundle(...options: string[]): Promise<string> {
    const entry = path.join(root, 'dist/esm/client/index.js');
    return run(inPackages('.bin/esbuild'), [entry, '--bundle', '--format=esm', '--platform=browser', ...options]);
  }

  it('needs no more than 9 KB, minified and gzipped', async () => {
    const size = gzipSync(await bundle('--minify'), { level: 9 }).length;
    expect(size).toBeLessThanOrEqual(CLIENT_LIMIT_BYTES);
  });

  it('depends on nothing', async () => {
    expect(await bundle()).not.toMatch(/\brequire\(|^import /m);
  });
});
