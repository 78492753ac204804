import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { inPackages, root, run } from './command.js';

const quickstart = path.join(root, 'test/package/quickstart');

export interface FreshApp {
  readonly directory: string;
  dispose(): Promise<void>;
}

interface Manifest {
  dependencies: Record<string, string>;
  devDependencies: Record<string, string>;
}

interface Lockfile {
  packages: Record<string, { version?: string }>;
}

/** Installs an application of quickstart/ outside the checkout, with the tarball as its dependency, and compiles it. */
export async function createFreshApp(name: string, nest: 11 | 12, tarball: string): Promise<FreshApp> {
  const directory = await mkdtemp(path.join(tmpdir(), `${name}-`));
  const dispose = () => rm(directory, { recursive: true, force: true });
  try {
    await cp(path.join(quickstart, name), directory, { recursive: true });
    await cp(path.join(quickstart, 'src'), path.join(directory, 'src'), { recursive: true });
    await writeManifest(path.join(directory, 'package.json'), nest, tarball);
    await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error'], {
      cwd: directory,
    });
    await run('node', [inPackages('typescript/bin/tsc'), '-p', directory], { cwd: directory });
  } catch (error) {
    await dispose();
    throw error;
  }
  return { directory, dispose };
}

/** Fills in the versions that this checkout was tested with. */
async function writeManifest(file: string, nest: 11 | 12, tarball: string): Promise<void> {
  const manifest = await readJson<Manifest>(file);
  const locks = [await readJson<Lockfile>(path.join(root, 'package-lock.json'))];
  if (nest === 11) locks.unshift(await readJson<Lockfile>(path.join(root, 'test/nest11/package-lock.json')));
  for (const dependencies of [manifest.dependencies, manifest.devDependencies]) {
    for (const name of Object.keys(dependencies)) {
      const locked = locks.map((lock) => lock.packages[`node_modules/${name}`]?.version).find(Boolean);
      if (!locked) throw new Error(`${name} is in no lockfile of this checkout`);
      dependencies[name] = locked;
    }
  }
  manifest.dependencies['nestjs-realtime'] = `file:${tarball}`;
  await writeFile(file, JSON.stringify(manifest, null, 2));
}

async function readJson<T>(file: string): Promise<T> {
  return JSON.parse(await readFile(file, 'utf8')) as T;
}
