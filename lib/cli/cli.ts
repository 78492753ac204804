import { constants } from 'node:os';
import { bench } from './bench.js';
import { doctor } from './doctor.js';
import { publish } from './publish.js';
import { stats } from './stats.js';
import { tail } from './tail.js';
import { parse, usage, UsageError } from './arguments.js';
import { pause, type Command, type Terminal } from './command.js';

const COMMANDS: readonly Command[] = [tail, publish, stats, bench, doctor];

function overview(): string {
  const rows = COMMANDS.map(({ name, parameters, what }) => {
    return `  ${[name, ...parameters].join(' ').padEnd(32)}${what.split('\n')[0]}`;
  });
  return `nestjs-realtime COMMAND [options]\n\n${rows.join('\n')}\n\nnestjs-realtime COMMAND --help tells its options.\n`;
}

/** Lines to standard output; what is beside them to standard error. */
function terminalOf({ stdout, stderr, signal }: Surroundings): Terminal {
  const clear = stderr.isTTY ? '\r\u001b[K' : '';
  return {
    out: (line) => {
      stderr.write(clear);
      stdout.write(`${line}\n`);
    },
    note: (line) => void stderr.write(`${clear}${line}\n`),
    progress: (text) => {
      if (stderr.isTTY) stderr.write(`${clear}${text}`);
    },
    signal,
  };
}

/** What the command line uses of its process. */
export interface Surroundings {
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown; readonly isTTY?: boolean };
  readonly env: NodeJS.ProcessEnv;
  /** Aborts when the user has had enough; its reason is the name of the signal, SIGINT if it has none. */
  readonly signal: AbortSignal;
}

/** For how long a command that was interrupted may clean up, ms. */
const CLEANING_MS = 1_000;

/**
 * Runs a command; resolves with the exit code: 0, 1 where it failed, 2 where it was called wrongly, 128 and the number of
 * the signal where it was interrupted.
 */
export async function runCli([name, ...rest]: readonly string[], surroundings: Surroundings): Promise<number> {
  const command = COMMANDS.find((one) => one.name === name);
  if (command === undefined) {
    const asked = name === undefined || ['help', '--help', '-h'].includes(name);
    (asked ? surroundings.stdout : surroundings.stderr).write(
      asked ? overview() : `No command "${name}"\n\n${overview()}`,
    );
    return asked ? 0 : 2;
  }
  const terminal = terminalOf(surroundings);
  try {
    const args = parse(command, rest, surroundings.env);
    if (!args.flag('help')) return await interruptible(command, command.run(args, terminal), surroundings.signal);
    surroundings.stdout.write(usage(command));
    return 0;
  } catch (error) {
    if (error instanceof UsageError) {
      terminal.note(`${error.message}\n\n${usage(command)}`);
      return 2;
    }
    terminal.note(describeError(error as Error));
    return 1;
  }
}

/** The exit code of a command that runs: its own, or that of the interruption, also if it does not heed that. */
async function interruptible({ endless }: Command, run: Promise<number>, signal: AbortSignal): Promise<number> {
  const code = (): number => 128 + (constants.signals[signal.reason as NodeJS.Signals] ?? constants.signals.SIGINT);
  const done = new AbortController();
  const interrupted = new Promise<number>((resolve) => {
    const leave = (): void => void pause(CLEANING_MS, done.signal).then(() => resolve(code()));
    signal.addEventListener('abort', leave, { once: true, signal: done.signal });
  });
  try {
    const own = await Promise.race([run, interrupted]);
    return signal.aborted && endless !== true ? code() : own;
  } catch (error) {
    if (signal.aborted) return code();
    throw error;
  } finally {
    done.abort();
  }
}

/** Errors of the hub have a code; why a request failed is in the cause of its error. */
function describeError(error: Error & { code?: unknown }): string {
  const { code, message, cause } = error;
  if (cause instanceof Error) return `${message}: ${cause.message}`;
  return typeof code === 'string' && !message.includes(code) ? `${code}: ${message}` : message;
}
