import type { MemoryBroker } from '../../lib/brokers/memory.broker.js';
import type { Envelope, PresenceChange } from '../../lib/hub/ports/broker.js';
import { formatPosition, parsePosition, type Position } from '../../lib/protocol/position.js';

/** A publication that was appended at some time, whether it is still in the log or not. */
export interface ModelEntry {
  /** The position right before it. */
  readonly prev: Position;
  readonly event: string;
  /** The data, parsed: what was published carries a number that tells it from all others. */
  readonly data: { readonly n: number; readonly key?: string };
  readonly exclude: string | undefined;
}

/** Everything that was ever appended to the channels of a memory broker: each publication knows its predecessor. */
export class ModelLog {
  readonly #entries = new Map<string, ModelEntry>();
  readonly #successors = new Map<string, ModelEntry[]>();

  readonly #members = new Map<string, Map<string, unknown>[]>();

  private constructor(private readonly broker: MemoryBroker) {}

  static async open(broker: MemoryBroker, channels: readonly string[]): Promise<ModelLog> {
    const model = new ModelLog(broker);
    const ignore = (): void => undefined;
    const session = await broker.open('model', {
      onEnvelope: (channel, envelope) => model.append(channel, envelope),
      onPresence: (channel, change) => model.#change(channel, change),
      onResumed: ignore,
      onClaim: () => Promise.resolve(),
      onFenced: () => 'model',
      onNudge: () => undefined,
      onHold: ignore,
    });
    for (const channel of channels) await session.subscribe(channel);
    return model;
  }

  entry(channel: string, position: Position): ModelEntry | undefined {
    return this.#entries.get(`${channel} ${position}`);
  }

  /** What ever came right after a position: one for each time that the log went on from there. */
  successors(channel: string, position: Position): readonly ModelEntry[] {
    return this.#successors.get(`${channel} ${position}`) ?? [];
  }

  /** Whether a position was ever that of a publication, or the beginning of a log. */
  knows(channel: string, position: Position): boolean {
    return position.endsWith('-0-0') || this.#entries.has(`${channel} ${position}`);
  }

  top(channel: string): Position {
    return this.broker.logs.use(channel, (log) => log.top);
  }

  /** Whether the broker can still tell what follows a position. Once it cannot, it never can again. */
  recoverable(channel: string, position: Position): boolean {
    return this.broker.logs.use(channel, (log) => log.read(position, 0).status === 'ok');
  }

  /** The publications that led to a position, newest first, as far back as the log's beginning. */
  *history(channel: string, position: Position): Generator<[Position, ModelEntry]> {
    for (let entry = this.entry(channel, position); entry; entry = this.entry(channel, position)) {
      yield [position, entry];
      position = entry.prev;
    }
  }

  /** Who was in a channel at a revision, with their information. */
  members(channel: string, rev: number): ReadonlyMap<string, unknown> {
    return this.#members.get(channel)?.[rev] ?? new Map();
  }

  #change(channel: string, { rev, joined, left }: PresenceChange): void {
    const revisions = this.#members.get(channel) ?? [];
    this.#members.set(channel, revisions);
    const members = new Map(revisions[rev - 1]);
    for (const id of left) members.delete(id);
    for (const { id, info } of joined) members.set(id, info);
    revisions[rev] = members;
  }

  /** Notes what was appended: called by itself for all that the broker announces. */
  append(channel: string, { epoch, prev, first, tag, items }: Envelope): void {
    let before = formatPosition(epoch, prev.offset, prev.tag);
    items.forEach(({ event, data, exclude }, i) => {
      const position = formatPosition(epoch, first + i, tag);
      const parsed = JSON.parse(data) as ModelEntry['data'];
      const entry: ModelEntry = { prev: before, event, data: parsed, exclude };
      this.#entries.set(`${channel} ${position}`, entry);
      const others = this.#successors.get(`${channel} ${before}`);
      if (others === undefined) this.#successors.set(`${channel} ${before}`, [entry]);
      else others.push(entry);
      before = position;
    });
  }
}

/** The epoch of a position that is one. */
export function epochOf(position: Position): string {
  return parsePosition(position)!.epoch;
}
