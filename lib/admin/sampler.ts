import type { HistogramStats } from '../hub/ports/histogram.js';
import type { Meter } from '../hub/ports/meter.js';
import { SAMPLE_MS, type Percentiles, type Sample } from './snapshot.js';

/** How many samples are kept: five minutes of them. */
export const KEPT_SAMPLES = 150;

/** What is sampled. */
export interface Sampled {
  readonly meter: Meter;
  readonly loop: { readonly lagMs: number };
  readonly connections: { readonly size: number };
  now(): number;
}

/** What a node has counted since it started. */
interface Counters {
  readonly at: number;
  readonly received: number;
  readonly sent: number;
  readonly published: number;
  readonly delivered: number;
  readonly errors: number;
  readonly refused: number;
  readonly fanOut: HistogramStats;
  readonly delivery: HistogramStats;
}

/** Takes a node's samples, and keeps the newest. Looks at what is counted, at no connection and no channel. */
export class Sampler {
  readonly #samples: Sample[] = [];
  #before: Counters;
  #slot = -Infinity;

  constructor(private readonly of: Sampled) {
    this.#before = countersOf(of);
  }

  /** Oldest first. */
  get samples(): readonly Sample[] {
    return this.#samples;
  }

  /** Takes the sample of the time since the last one. Call every {@link SAMPLE_MS}. */
  take(): Sample {
    const now = countersOf(this.of);
    const before = this.#before;
    this.#before = now;
    const elapsedMs = now.at - before.at;
    const seconds = (elapsedMs > 0 ? elapsedMs : SAMPLE_MS) / 1_000; // the clock may be set back
    const rate = (name: 'received' | 'sent' | 'published' | 'delivered' | 'errors' | 'refused'): number =>
      round((now[name] - before[name]) / seconds);
    this.#slot = Math.max(this.#slot + 1, Math.floor(now.at / SAMPLE_MS));
    const sample: Sample = {
      slot: this.#slot,
      connections: this.of.connections.size,
      received: rate('received'),
      sent: rate('sent'),
      published: rate('published'),
      delivered: rate('delivered'),
      errors: rate('errors'),
      refused: rate('refused'),
      lagMs: Math.round(this.of.loop.lagMs),
      fanOutMs: percentiles(before.fanOut, now.fanOut),
      deliveryMs: percentiles(before.delivery, now.delivery),
    };
    this.#samples.push(sample);
    if (this.#samples.length > KEPT_SAMPLES) this.#samples.shift();
    return sample;
  }
}

function countersOf(of: Sampled): Counters {
  const { meter } = of;
  const { events, unknown, bad, unread, channels, sent } = meter;
  let received = unknown.frames + bad.frames + unread.frames;
  for (const { frames } of events.values()) received += frames;
  let published = 0;
  let delivered = 0;
  for (const [pattern, tally] of channels) {
    if (pattern.startsWith('$')) continue;
    published += tally.published;
    delivered += tally.delivered;
  }
  let others = 0;
  for (const { frames } of Object.values(sent)) others += frames;
  return {
    at: of.now(),
    received,
    sent: delivered + others,
    published,
    delivered,
    errors: sum(meter.errors.stats),
    refused: sum(meter.refused.stats),
    fanOut: meter.fanOut.stats,
    delivery: meter.delivery.stats,
  };
}

function sum(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((all, count) => all + count, 0);
}

/** What was observed between two looks at a histogram of seconds. */
function percentiles(before: HistogramStats, after: HistogramStats): Percentiles | null {
  const counts = after.counts.map((count, i) => count - before.counts[i]!);
  const total = after.count - before.count;
  if (total <= 0) return null;
  return [quantile(after.bounds, counts, total, 0.5), quantile(after.bounds, counts, total, 0.99)];
}

/** In ms, as if the values of a bucket were spread evenly over it; above the last bound it is that bound. */
function quantile(bounds: readonly number[], counts: readonly number[], total: number, share: number): number {
  let wanted = share * total;
  let lower = 0;
  for (const [i, bound] of bounds.entries()) {
    const count = counts[i]!;
    if (count > 0 && count >= wanted) return precise((lower + (bound - lower) * (wanted / count)) * 1_000);
    wanted -= count;
    lower = bound;
  }
  return precise(lower * 1_000);
}

function round(value: number): number {
  return Math.round(Math.max(0, value) * 10) / 10;
}

function precise(ms: number): number {
  return Number(ms.toPrecision(3));
}
