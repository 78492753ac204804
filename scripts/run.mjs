// Runs a command and tells whether it succeeded. Children die with this process.
import { spawn } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

const children = new Set();
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL');
});

/** Resolves with the exit code; output goes where ours goes. `command` is 'node' for this very Node. */
export function run(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command === 'node' ? process.execPath : command, args, {
      cwd: root,
      stdio: 'inherit',
      ...options,
    });
    children.add(child);
    child.once('error', (error) => {
      children.delete(child);
      reject(error);
    });
    child.once('exit', (code, signal) => {
      children.delete(child);
      resolve(code ?? (signal ? 1 : 0));
    });
  });
}

/** As `run`, but throws when the command fails. */
export async function mustRun(command, args, options) {
  const code = await run(command, args, options);
  if (code !== 0) throw new Error(`\`${path.basename(command)} ${args.join(' ')}\` failed with exit code ${code}`);
}

/** The script of an installed package, to be run by 'node': no shell, no npx. */
export const bin = {
  tsc: path.join(root, 'node_modules/typescript/bin/tsc'),
  eslint: path.join(root, 'node_modules/eslint/bin/eslint.js'),
  prettier: path.join(root, 'node_modules/prettier/bin/prettier.cjs'),
  jest: path.join(root, 'node_modules/jest/bin/jest.js'),
};
