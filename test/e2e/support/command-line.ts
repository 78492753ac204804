import { runCli } from '../../../lib/cli/cli.js';

/** How a command line ended, and what it wrote. */
export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs a command line; `seen` is asked after each line of output whether the user has had enough, who may interrupt besides. */
export async function runCommand(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
  seen: (out: string, err: string) => boolean = () => false,
  interrupt = new AbortController(),
): Promise<Ran> {
  let out = '';
  let err = '';
  const look = (): void => {
    if (seen(out, err)) interrupt.abort();
  };
  const stdout = {
    write: (text: string): void => {
      out += text;
      look();
    },
  };
  const stderr = {
    write: (text: string): void => {
      err += text;
      look();
    },
  };
  const code = await runCli(args, { stdout, stderr, env, signal: interrupt.signal });
  return { code, out, err };
}
