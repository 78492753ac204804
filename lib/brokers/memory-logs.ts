import type { Clock } from '../hub/ports/clock.js';
import { makeEpoch } from '../protocol/position.js';
import { Deadlines } from '../hub/deadlines.js';
import { MemoryLog } from './memory-log.js';

/** The logs of all channels. What has expired is gone for who asks at once, and its memory with the next sweep. */
export class MemoryLogs {
  private readonly logs = new Map<string, MemoryLog>();
  private readonly deadlines = new Deadlines<MemoryLog>();

  constructor(
    private readonly clock: Clock,
    private readonly metaTtlMs: number,
    private readonly random: () => number,
  ) {}

  /** How many channels have a log, those that have expired since the last sweep included. */
  get size(): number {
    return this.logs.size;
  }

  /** Applies a step to the channel's log, which is created if absent and in use from now on. */
  use<T>(channel: string, step: (log: MemoryLog, now: number) => T): T {
    const now = this.clock.now();
    const log = this.find(channel, now) ?? this.create(channel);
    log.expire(now);
    log.touch(now);
    const result = step(log, now);
    // Uses move the deadline away; the wheel learns that only when the old one passes.
    const next = log.nextDeadline;
    if (log.dueAt === undefined || next < log.dueAt) this.deadlines.set(log, next);
    return result;
  }

  /** Frees what has expired. */
  sweep(): void {
    const now = this.clock.now();
    for (const log of this.deadlines.takeDue(now)) {
      log.expire(now);
      if (log.isOver(now)) this.logs.delete(log.channel);
      else this.deadlines.set(log, log.nextDeadline);
    }
  }

  /** Loses every log, as a broker that restarts without its data does. */
  wipe(): void {
    for (const log of this.logs.values()) this.deadlines.delete(log);
    this.logs.clear();
  }

  private find(channel: string, now: number): MemoryLog | undefined {
    const log = this.logs.get(channel);
    if (!log?.isOver(now)) return log;
    this.deadlines.delete(log);
    return undefined;
  }

  private create(channel: string): MemoryLog {
    const log = new MemoryLog(channel, makeEpoch(this.random), this.metaTtlMs);
    this.logs.set(channel, log);
    return log;
  }
}
