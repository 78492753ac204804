// One at a time among processes that share this checkout. It saves double work; what it protects must also survive
// two at once, since a holder that was stopped for longer than STALE_MS is passed over.
import { mkdir, rename, rm, stat, utimes } from 'node:fs/promises';
import path from 'node:path';
import { root } from './run.mjs';

const BEAT_MS = 1_000;
const STALE_MS = 15_000;
const POLL_MS = 100;

/** Runs `work` while holding the lock directory .build/<name>.lock, whose changing time says that the holder lives. */
export async function withLock(name, work) {
  const directory = path.join(root, '.build', `${name}.lock`);
  await mkdir(path.dirname(directory), { recursive: true });
  while (!(await tryTake(directory))) {
    await removeIfStale(directory);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  const beat = setInterval(() => {
    const now = new Date();
    utimes(directory, now, now).catch(() => {});
  }, BEAT_MS);
  try {
    return await work();
  } finally {
    clearInterval(beat);
    await rm(directory, { recursive: true, force: true });
  }
}

async function tryTake(directory) {
  try {
    await mkdir(directory);
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw error;
  }
}

async function removeIfStale(directory) {
  const found = await stat(directory).catch(() => undefined);
  if (!found || Date.now() - found.mtimeMs < STALE_MS) return;
  const aside = `${directory}.stale.${process.pid}`;
  // A rename succeeds for one of several waiters only.
  await rename(directory, aside).catch(() => {});
  await rm(aside, { recursive: true, force: true });
}
