// What tests and the cluster need of the distribution: finding it, and installing it where that is possible.
import { accessSync, constants } from 'node:fs';
import path from 'node:path';
import { withLock } from './lock.mjs';
import { run } from './run.mjs';

const UPDATE_ATTEMPTS = 5;
const UPDATE_RETRY_MS = 10_000;

/** Where a program may be: on the PATH, and where servers are that only root has there. */
export function placesOf(name) {
  const folders = (process.env.PATH ?? '').split(path.delimiter).filter(path.isAbsolute);
  return [...folders, '/usr/sbin', '/usr/local/sbin', '/opt/homebrew/bin'].map((folder) => path.join(folder, name));
}

/** The first of the paths that is an executable file. */
export function findExecutable(paths) {
  return paths.filter(Boolean).find(isExecutable);
}

/** What `find` finds, after installing a package where it finds nothing; throws with `advice` where that is impossible. */
export async function needPackage(name, find, advice) {
  const found = find();
  if (found) return found;
  if (process.getuid?.() !== 0 || !['/usr/bin/apt-get', '/bin/apt-get'].some(isExecutable)) throw new Error(advice);
  return withLock('apt', async () => {
    if (!find()) await install(name);
    const installed = find();
    if (!installed) throw new Error(`apt-get could not install ${name}; its messages are above.`);
    return installed;
  });
}

async function install(name) {
  console.log(`installing ${name} …`);
  const lock = ['-o', 'DPkg::Lock::Timeout=300'];
  // RUNLEVEL=1 keeps packages from starting daemons.
  const options = {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' },
  };
  // The lock of the package lists has no timeout of its own.
  for (
    let attempt = 1;
    (await run('apt-get', ['-qq', 'update'], options)) !== 0 && attempt < UPDATE_ATTEMPTS;
    attempt++
  ) {
    await new Promise((resolve) => setTimeout(resolve, UPDATE_RETRY_MS));
  }
  await run('apt-get', ['-qq', 'install', '-y', '--no-install-recommends', ...lock, name], options);
}

function isExecutable(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
