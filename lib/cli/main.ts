#!/usr/bin/env node
import { runCli } from './cli.js';

const interrupt = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => interrupt.abort(name));
// A reader such as `head` that has had enough is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

const { stdout, stderr, env } = process;
void runCli(process.argv.slice(2), { stdout, stderr, env, signal: interrupt.signal }).then((code) => {
  process.exitCode = code;
  // Name lookups and their like cannot be ended.
  if (interrupt.signal.aborted) stdout.write('', () => process.exit());
});
