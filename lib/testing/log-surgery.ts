import type { MemoryBroker } from '../brokers/memory.broker.js';

/** What can happen to the data of a broker. */
export interface LogSurgery {
  /** Every log is gone, and what is revoked: the next use of a channel begins a new epoch. */
  wipe(): void | Promise<void>;
  /**
   * A failover to a copy that lagged behind: the channel's log ends at an offset that was stored; what came after it is
   * lost, idempotency keys too, and the offsets after it will be given again.
   */
  diverge(channel: string, toOffset: number): void | Promise<void>;
  /** The channel's history is gone; epoch and top stay. */
  trim(channel: string): void | Promise<void>;
}

/** Surgery on the logs of a memory broker. */
export function memorySurgery({ logs, revocations }: MemoryBroker): LogSurgery {
  return {
    wipe() {
      logs.wipe();
      revocations.wipe();
    },
    diverge: (channel, toOffset) => logs.use(channel, (log) => log.truncate(toOffset)),
    trim: (channel) => logs.use(channel, (log) => log.trim()),
  };
}
