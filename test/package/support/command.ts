import { execFile, type ExecFileOptions } from 'node:child_process';
import path from 'node:path';

export const root = path.resolve(import.meta.dirname, '../../..');

/** The environment of a user's shell: without what npm and jest set for their children. */
export const cleanEnv: NodeJS.ProcessEnv = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => name !== 'NODE_OPTIONS' && !/^(npm_|JEST_)/.test(name)),
);

/** Runs a command to its end and resolves with its stdout; rejects with everything it printed. */
export function run(command: string, args: string[], options: ExecFileOptions = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(
      command === 'node' ? process.execPath : command,
      args,
      { cwd: root, env: cleanEnv, maxBuffer: 64 * 1024 * 1024, ...options, encoding: 'utf8' },
      (error, stdout, stderr) => {
        if (error) reject(new Error(`${command} ${args.join(' ')}\n${error.message}\n${stdout}\n${stderr}`));
        else resolve(stdout);
      },
    );
  });
}

/** The script behind a package's command, to be run by node. */
export const inPackages = (file: string): string => path.join(root, 'node_modules', file);
