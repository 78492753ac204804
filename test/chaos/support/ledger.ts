import { Stopwatch } from '../../support/stopwatch.js';

/** A loss that a peer was told. */
export interface ToldLoss {
  readonly who: string;
  readonly channel: string;
  /** By the ledger's watch, ms. */
  readonly at: number;
  readonly reason: string;
  /** The last number that it had got. */
  readonly after: number;
  readonly during: string;
}

/**
 * What all peers got: on each channel the numbers from 1 on, in order. Notes everything that is not so, with who, where
 * and when.
 */
export class Ledger {
  readonly defects: string[] = [];
  readonly losses: ToldLoss[] = [];
  /** Publications that were delivered, over all peers; and of each channel. */
  delivered = 0;
  readonly deliveredOn = new Map<string, number>();
  /** What is being done to the machines, for the notes. */
  during = 'the start';
  private readonly last = new Map<string, number>();
  /** Peers that were told of a loss go on at whatever number comes next. */
  private readonly adrift = new Set<string>();
  /** How long it has been kept: what has to be told soon is late only where the machine was not. */
  readonly watch = new Stopwatch();

  see(who: string, channel: string, n: number): void {
    const key = keyOf(who, channel);
    const before = this.last.get(key) ?? 0;
    this.delivered += 1;
    this.deliveredOn.set(channel, (this.deliveredOn.get(channel) ?? 0) + 1);
    if (n <= before) this.defect(who, channel, `got ${n} after ${before}: ${before - n + 1} back`);
    else if (n > before + 1 && !this.adrift.has(key)) {
      this.defect(who, channel, `got ${n} after ${before}: ${n - before - 1} are missing`);
    }
    this.adrift.delete(key);
    this.last.set(key, Math.max(before, n));
  }

  lose(who: string, channel: string, reason: string): void {
    const key = keyOf(who, channel);
    this.adrift.add(key);
    const after = this.last.get(key) ?? 0;
    this.losses.push({ who, channel, at: this.watch.elapsedMs, reason, after, during: this.during });
  }

  defect(who: string, channel: string, what: string): void {
    const seconds = (this.watch.elapsedMs / 1000).toFixed(3);
    this.defects.push(`${seconds} s, ${this.during}: ${who} on ${channel} ${what}`);
  }

  /** The last number that a peer got. */
  lastOf(who: string, channel: string): number {
    return this.last.get(keyOf(who, channel)) ?? 0;
  }
}

function keyOf(who: string, channel: string): string {
  return `${who}\n${channel}`;
}
