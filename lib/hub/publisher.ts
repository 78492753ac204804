import { isRealtimeException, RealtimeException } from '../protocol/errors.js';
import { makeTag, type Position } from '../protocol/position.js';
import { itemBytes } from './batch.js';
import type { ChannelMatch } from './definition.js';
import type { AppendItem, BrokerSession, Retention } from './ports/broker.js';
import { MAX_NOTED_TRACES, writeNote, type NotedTrace } from './note.js';
import type { Clock } from './ports/clock.js';
import type { ChannelTally } from './ports/meter.js';
import type { Turn } from './turn.js';

/** Publications that are on their way to the broker, in bytes: past it publishing is refused. */
const MAX_IN_FLIGHT_BYTES = 64 * 1024 * 1024;

/** What a turn publishes to a channel. */
interface Pending {
  readonly retention: Retention;
  readonly tally: ChannelTally | undefined;
  readonly items: AppendItem[];
  readonly waiting: Waiting[];
  /** The spans of those that are traced. */
  traces?: NotedTrace[];
  bytes: number;
}

interface Waiting {
  readonly resolve: (position: Position) => void;
  readonly reject: (error: unknown) => void;
}

/** Appends what was published in a turn, as one call per channel. Order is kept per channel. */
export class Publisher {
  readonly #channels = new Map<string, Pending>();
  #bytesInFlight = 0;

  constructor(
    private readonly broker: BrokerSession,
    private readonly turn: Turn,
    private readonly clock: Clock,
  ) {}

  /** Appends a publication to a channel that was declared, as {@link publish} does, and traces it. */
  publishTo({ channel, definition }: ChannelMatch, item: AppendItem, timeoutMs?: number): Promise<Position> {
    const { pattern, retention } = definition;
    const { tracing, meter } = this.turn;
    const tally = meter.channel(pattern);
    if (tracing === undefined) return this.publish(channel, retention, item, timeoutMs, tally);
    const span = tracing.publication({ channel, pattern, event: item.event });
    const published = this.publish(channel, retention, item, timeoutMs, tally, span.context);
    published
      .catch((error: unknown) => span.fail(isRealtimeException(error) ? error.code : 'internal', error))
      .finally(() => span.end());
    return published;
  }

  /**
   * Appends a publication. Rejects with `broker_unavailable` (not applied) or `outcome_unknown` (may be applied, also
   * after `timeoutMs`). What is appended is counted in `tally`; `trace`, the context of its span, goes along.
   */
  publish(
    channel: string,
    retention: Retention,
    item: AppendItem,
    timeoutMs?: number,
    tally?: ChannelTally,
    trace?: string,
  ): Promise<Position> {
    const bytes = itemBytes(item);
    if (this.#bytesInFlight + bytes > MAX_IN_FLIGHT_BYTES) {
      return Promise.reject(new RealtimeException('broker_unavailable', 'Too many publications wait for the broker'));
    }
    this.#bytesInFlight += bytes;
    let pending = this.#channels.get(channel);
    if (pending === undefined) {
      if (this.#channels.size === 0) this.turn.append(this);
      this.#channels.set(channel, (pending = { retention, tally, items: [], waiting: [], bytes: 0 }));
    }
    const { items, waiting } = pending;
    pending.bytes += bytes;
    if (trace !== undefined) note(pending, { index: items.length, context: trace });
    items.push(item);
    const settled = new Promise<Position>((resolve, reject) => waiting.push({ resolve, reject }));
    return timeoutMs === undefined ? settled : this.#within(timeoutMs, settled);
  }

  flush(): void {
    const channels = [...this.#channels];
    this.#channels.clear();
    for (const [channel, pending] of channels) void this.#append(channel, pending);
  }

  async #append(channel: string, { retention, tally, items, waiting, traces, bytes }: Pending): Promise<void> {
    try {
      const now = this.clock.now();
      const at = tally !== undefined && this.turn.meter.samples(now) ? now : undefined;
      const note = writeNote(at, items.length, traces);
      const { results } = await this.broker.append(channel, retention, makeTag(), items, note);
      if (tally !== undefined) for (const { repeated } of results) if (!repeated) tally.published++;
      waiting.forEach(({ resolve }, i) => resolve(results[i]!.position));
    } catch (error) {
      for (const { reject } of waiting) reject(error);
    } finally {
      this.#bytesInFlight -= bytes;
    }
  }

  #within(timeoutMs: number, settled: Promise<Position>): Promise<Position> {
    return new Promise((resolve, reject) => {
      const cancel = this.clock.after(timeoutMs, () => {
        reject(new RealtimeException('outcome_unknown', `The broker did not answer within ${timeoutMs} ms`));
      });
      settled.then(resolve, reject).finally(cancel);
    });
  }
}

function note(pending: Pending, trace: NotedTrace): void {
  const traces = (pending.traces ??= []);
  if (traces.length < MAX_NOTED_TRACES) traces.push(trace);
}
