import type { PresenceAnswer, PresenceData } from '../protocol/frames.js';
import type { Channel } from './channel.js';
import type { BrokerSession, PresenceChange, PresenceEntry } from './ports/broker.js';
import type { Clock } from './ports/clock.js';
import type { Meter } from './ports/meter.js';

const MERGE_MS = 250;
/** Above this many members changes come without names. */
const NAMED_MEMBERS = 200;
/** How large a member's `info` may be, in bytes of JSON. */
const MAX_INFO_BYTES = 1024;

/** How often a step that the broker refused is tried again, and how many times. */
const RETRY_MS = 1000;
const RETRIES = 300;

interface Merged {
  readonly prev: number;
  rev: number;
  count: number;
  readonly joined: Map<string, unknown>;
  readonly left: Set<string>;
}

/** The members of channels, as this node tells them: joins and leaves of its connections, changes for its subscribers. */
export class Presence {
  readonly #pending = new Map<string, Merged>();
  /** The last step of each connection in a channel: a leave follows its join. */
  readonly #steps = new Map<string, Promise<void>>();
  /** The last steps that failed: without them members would be missing, or stay for ever. */
  readonly #failed = new Map<string, { run: () => Promise<void>; attempts: number }>();

  constructor(
    private readonly broker: BrokerSession,
    private readonly clock: Clock,
    private readonly graceMs: number,
    private readonly channelOf: (name: string) => Channel | undefined,
    private readonly onError: (error: unknown) => void,
    private readonly meter: Meter,
  ) {}

  /** Adds a connection to the members. */
  join(channel: string, entry: PresenceEntry): void {
    this.#step(channel, entry.connection, () => this.broker.join(channel, entry));
  }

  /** Removes a connection: at once, or after the grace period. */
  leave(channel: string, connection: string, atOnce: boolean): void {
    this.#step(channel, connection, () => this.broker.leave(channel, connection, atOnce ? 0 : this.graceMs));
  }

  /** The members, after the steps that this node has begun. */
  async members(channel: string): Promise<PresenceAnswer> {
    await Promise.all([...this.#steps].filter(([key]) => key.startsWith(`${channel}\n`)).map(([, step]) => step));
    return this.broker.presence(channel);
  }

  /** The broker told of a change: changes of 250 ms are told as one. */
  changed(name: string, change: PresenceChange): void {
    let merged = this.#pending.get(name);
    if (merged !== undefined && change.rev <= merged.rev) return;
    this.meter.joined += change.joined.length;
    this.meter.left += change.left.length;
    // Where a change was lost on the way, what came before it is of no use: whoever gets the rest asks again.
    if (merged?.rev !== change.rev - 1) {
      if (merged === undefined) this.clock.after(MERGE_MS, () => this.#tell(name));
      merged = { prev: change.rev - 1, rev: change.rev, count: change.count, joined: new Map(), left: new Set() };
      this.#pending.set(name, merged);
    }
    merged.rev = change.rev;
    merged.count = change.count;
    for (const id of change.left) {
      // Told even if it joined meanwhile: it may have been there before, or have joined anew with other information.
      merged.joined.delete(id);
      merged.left.add(id);
    }
    for (const { id, info } of change.joined) {
      merged.left.delete(id);
      merged.joined.set(id, info);
    }
  }

  #tell(name: string): void {
    const merged = this.#pending.get(name);
    this.#pending.delete(name);
    const channel = this.channelOf(name);
    if (merged === undefined || channel === undefined) return;
    const { prev, rev, count } = merged;
    const named = count <= NAMED_MEMBERS;
    const joined = [...merged.joined].map(([id, info]) => ({ id, info }));
    const data: PresenceData = named ? { prev, rev, count, joined, left: [...merged.left] } : { prev, rev, count };
    for (const subscriber of channel.subscribers) subscriber.notify('$presence', data);
  }

  #step(channel: string, connection: string, run: () => Promise<void>): void {
    const key = `${channel}\n${connection}`;
    this.#failed.delete(key);
    this.#run(key, run, 1);
  }

  #run(key: string, run: () => Promise<void>, attempts: number): void {
    const before = this.#steps.get(key);
    const step = (before === undefined ? run() : before.then(run))
      .catch((error: unknown) => {
        if (this.#steps.get(key) !== step) return; // a later step says what holds
        if (attempts > RETRIES) this.onError(error);
        else this.#retryLater(key, run, attempts);
      })
      .finally(() => {
        if (this.#steps.get(key) === step) this.#steps.delete(key);
      });
    this.#steps.set(key, step);
  }

  /** Steps are idempotent: one whose outcome is not known is repeated too. */
  #retryLater(key: string, run: () => Promise<void>, attempts: number): void {
    if (this.#failed.size === 0) this.clock.after(RETRY_MS, () => this.#retry());
    this.#failed.set(key, { run, attempts });
  }

  #retry(): void {
    const failed = [...this.#failed];
    this.#failed.clear();
    for (const [key, { run, attempts }] of failed) this.#run(key, run, attempts + 1);
  }
}

/** A member's `info` as it is kept: a JSON value of at most 1 KiB, else null. */
export function presenceInfo(info: unknown): unknown {
  try {
    const json = JSON.stringify(info) ?? 'null';
    return Buffer.byteLength(json) <= MAX_INFO_BYTES ? (JSON.parse(json) as unknown) : null;
  } catch {
    return null;
  }
}
