import { ConsoleLogger, type LogLevel } from '@nestjs/common';
import { inspect } from 'node:util';
import { watchLog } from './secrets.js';

/** Prints errors alone, and has the lines of every level looked at for secrets. */
export class WatchedLogger extends ConsoleLogger {
  protected override printMessages(
    messages: unknown[],
    context?: string,
    level: LogLevel = 'log',
    stream?: 'stdout' | 'stderr',
    stack?: unknown,
  ): void {
    for (const message of [...messages, stack]) watchLog(typeof message === 'string' ? message : inspect(message));
    if (level === 'error' || level === 'fatal') super.printMessages(messages, context, level, stream, stack);
  }
}
