#!/usr/bin/env node
import { bench } from './bench.js';
import { doctor } from './doctor.js';
import { publish } from './publish.js';
import { stats } from './stats.js';
import { tail } from './tail.js';
import { parse, usage, UsageError } from './arguments.js';
import type { Command, Terminal } from './command.js';

const COMMANDS: readonly Command[] = [tail, publish, stats, bench, doctor];

function overview(): string {
  const rows = COMMANDS.map(({ name, parameters, what }) => {
    return `  ${[name, ...parameters].join(' ').padEnd(32)}${what.split('\n')[0]}`;
  });
  return `nestjs-realtime COMMAND [options]\n\n${rows.join('\n')}\n\nnestjs-realtime COMMAND --help tells its options.\n`;
}

/** Lines to standard output; what is beside them to standard error. */
function terminalOf({ stdout, stderr }: NodeJS.Process, signal: AbortSignal): Terminal {
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

async function run([name, ...rest]: readonly string[], process: NodeJS.Process): Promise<number> {
  const command = COMMANDS.find((one) => one.name === name);
  if (command === undefined) {
    const asked = name === undefined || name === 'help' || name === '--help';
    (asked ? process.stdout : process.stderr).write(asked ? overview() : `No command "${name}"\n\n${overview()}`);
    return asked ? 0 : 2;
  }
  const interrupt = new AbortController();
  process.once('SIGINT', () => interrupt.abort());
  process.once('SIGTERM', () => interrupt.abort());
  const terminal = terminalOf(process, interrupt.signal);
  try {
    const args = parse(command, rest, process.env);
    if (!args.flag('help')) return await command.run(args, terminal);
    process.stdout.write(usage(command));
    return 0;
  } catch (error) {
    if (error instanceof UsageError) {
      terminal.note(`${error.message}\n\n${usage(command)}`);
      return 2;
    }
    const { message, cause } = error as Error;
    terminal.note(cause instanceof Error ? `${message}: ${cause.message}` : message);
    return 1;
  }
}

// A reader such as `head` that has had enough is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));
void run(process.argv.slice(2), process).then((code) => (process.exitCode = code));
