// Installs the second Nest of the tests, test/nest11, when it is missing or its lockfile has changed.
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { withLock } from './lock.mjs';
import { mustRun, root } from './run.mjs';

const directory = path.join(root, 'test/nest11');
const stampFile = path.join(directory, 'node_modules/.lock-hash');

export async function needNest11() {
  if (await isFresh()) return;
  await withLock('nest11', async () => {
    if (await isFresh()) return;
    console.log('installing Nest 11 into test/nest11 …');
    await mustRun('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: directory });
    await writeFile(stampFile, await lockHash());
  });
}

async function isFresh() {
  const stamp = await readFile(stampFile, 'utf8').catch(() => undefined);
  return stamp === (await lockHash());
}

async function lockHash() {
  return createHash('sha256')
    .update(await readFile(path.join(directory, 'package-lock.json')))
    .digest('hex');
}
