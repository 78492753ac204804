// Builds lib/ to dist/ (ESM and CommonJS) and sample/ to dist-sample/, each only when it is missing or was built from
// other sources. A build happens in a directory of its own and is renamed into place when it is whole.
import { createHash } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { cp, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { embed } from './embed.mjs';
import { withLock } from './lock.mjs';
import { bin, mustRun, root } from './run.mjs';

const STAMP = '.source-hash';
const LEFTOVER_MS = 600_000;

const library = {
  output: 'dist',
  sources: ['lib', 'package.json', 'tsconfig.json', 'tsconfig.build.json', 'tsconfig.cjs.json', 'scripts/build.mjs'],
  async compile(directory) {
    const passes = await Promise.allSettled([
      tsc('tsconfig.build.json', path.join(directory, 'esm')),
      tsc('tsconfig.cjs.json', path.join(directory, 'cjs')),
    ]);
    const failed = passes.find(({ status }) => status === 'rejected');
    if (failed) throw failed.reason;
    await writeFile(path.join(directory, 'cjs/package.json'), '{"type":"commonjs"}\n');
  },
};

const sample = {
  output: 'dist-sample',
  sources: ['sample', 'tsconfig.sample.json', ...library.sources],
  async compile(directory) {
    await tsc('tsconfig.sample.json', directory);
    // Pages, styles and pictures go along.
    await cp(path.join(root, 'sample'), directory, { recursive: true, filter: (file) => !file.endsWith('.ts') });
  },
};

export async function build() {
  await embed();
  await buildIfNeeded(library);
  if (existsSync(path.join(root, 'sample/main.ts'))) await buildIfNeeded(sample);
}

async function buildIfNeeded(target) {
  if (await isFresh(target)) return;
  await withLock(target.output, async () => {
    if (await isFresh(target)) return; // another process built it while we waited
    const startedAt = Date.now();
    console.log(`building ${target.output}/ …`);
    await removeLeftovers(target);
    const directory = await mkdtemp(path.join(root, '.build', `${target.output}-`));
    try {
      const hash = await hashSources(target);
      await target.compile(directory);
      await writeFile(path.join(directory, STAMP), hash);
      await swapIn(directory, path.join(root, target.output));
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
    console.log(`built ${target.output}/ in ${((Date.now() - startedAt) / 1000).toFixed(1)} s`);
  });
}

/** Of builds that were killed. */
async function removeLeftovers({ output }) {
  const folder = path.join(root, '.build');
  for (const name of await readdir(folder)) {
    const entry = path.join(folder, name);
    const ours = new RegExp(`^${output}-\\w{6}(-old)?$`).test(name);
    const changedAt = statSync(entry, { throwIfNoEntry: false })?.mtimeMs ?? 0;
    if (ours && Date.now() - changedAt > LEFTOVER_MS) await rm(entry, { recursive: true, force: true });
  }
}

async function swapIn(directory, output) {
  const old = `${directory}-old`;
  for (let attempt = 1; ; attempt++) {
    await rename(output, old).catch((error) => {
      if (error.code !== 'ENOENT') throw error;
    });
    try {
      await rename(directory, output);
      break;
    } catch (error) {
      // Another process put its own in between.
      if (!['ENOTEMPTY', 'EEXIST'].includes(error.code) || attempt === 5) throw error;
    } finally {
      await rm(old, { recursive: true, force: true });
    }
  }
}

async function isFresh(target) {
  const stamp = await readFile(path.join(root, target.output, STAMP), 'utf8').catch(() => undefined);
  return stamp !== undefined && stamp === (await hashSources(target));
}

async function hashSources({ sources }) {
  const hash = createHash('sha256');
  for (const source of sources) {
    for (const file of await filesOf(path.join(root, source))) {
      hash
        .update(path.relative(root, file))
        .update('\0')
        .update(await readFile(file))
        .update('\0');
    }
  }
  return hash.digest('hex');
}

async function filesOf(entry) {
  if (!statSync(entry, { throwIfNoEntry: false })?.isDirectory()) return [entry];
  const found = await readdir(entry, { recursive: true, withFileTypes: true });
  return found
    .filter((item) => item.isFile())
    .map((item) => path.join(item.parentPath ?? item.path, item.name))
    .sort();
}

async function tsc(project, outDir) {
  if (!existsSync(bin.tsc)) throw new Error('TypeScript is not installed: run `npm ci` first.');
  await mustRun('node', [bin.tsc, '-p', project, '--outDir', outDir, '--noEmitOnError']);
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  build().catch((error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
}
