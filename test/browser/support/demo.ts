import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { watchLog } from '../../support/secrets.js';

const root = path.resolve(import.meta.dirname, '../../..');

/** The sample, running in a process of its own. */
export interface Demo {
  readonly url: string;
  /** Sends SIGTERM; resolves with what the process printed and how it ended. */
  stop(): Promise<{ output: string; code: number | null; signal: NodeJS.Signals | null }>;
}

/** What `npm start` runs, on a port that the system chooses, with environment variables. Resolves when it has printed its address. */
export async function startDemo(settings: Record<string, string> = {}): Promise<Demo> {
  const { NODE_OPTIONS: _, ...env } = process.env; // those of jest
  const child = spawn(process.execPath, ['scripts/start.mjs'], {
    cwd: root,
    env: { ...env, PORT: '0', ...settings },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const kill = (): unknown => child.kill('SIGKILL');
  process.once('exit', kill);
  const closed = once(child, 'close').finally(() => process.off('exit', kill)) as Promise<
    [number | null, NodeJS.Signals | null]
  >;

  let output = '';
  const print = (text: string): void => {
    output += text;
    watchLog(text);
  };
  child.stderr.setEncoding('utf8').on('data', print);
  const url = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      print(`${line}\n`);
      const address = /http:\/\/localhost:\d+/.exec(line)?.[0];
      if (address) resolve(address);
    });
    closed.then(
      () => reject(new Error(`The demo ended before it listened:\n${output}`)),
      (error: unknown) => reject(error as Error),
    );
  });
  return {
    url,
    async stop() {
      child.kill('SIGTERM');
      const [code, signal] = await closed;
      return { output, code, signal };
    },
  };
}
