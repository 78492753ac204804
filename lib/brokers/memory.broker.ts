import type {
  AppendItem,
  AppendResult,
  Broker,
  BrokerListener,
  BrokerSession,
  ConnectionInfo,
  PresenceEntry,
  ReadResult,
  RegisteredConnection,
  Retention,
  StoredItem,
} from '../hub/ports/broker.js';
import { systemClock } from '../hub/ports/clock.js';
import { subjectsOf } from '../hub/ports/subjects.js';
import type { Clock } from '../hub/ports/clock.js';
import type { RecordStore } from '../hub/ports/records.js';
import type { Revocation } from '../hub/ports/revocation.js';
import { RealtimeException } from '../protocol/errors.js';
import type { PresenceAnswer } from '../protocol/frames.js';
import type { Position } from '../protocol/position.js';
import { MemoryLogs } from './memory-logs.js';
import { MemoryOnces } from './memory-onces.js';
import { MemoryPresence } from './memory-presence.js';
import { MemoryRecords } from './memory-records.js';
import { MemoryRevocations } from './memory-revocations.js';

/** Options of {@link memoryBroker}. */
export interface MemoryBrokerOptions {
  /**
   * How long a channel that nobody uses keeps its epoch and offset → then its log starts anew, and a peer with an older
   * position is told that it was lost. In milliseconds; `Infinity` keeps them for ever. Holds for channels that are
   * read only; a publication brings its own time.
   *
   * @defaultValue 86_400_000
   */
  metaTtlMs?: number;
  /** @internal Time, for tests. */
  clock?: Clock;
  /** @internal Numbers from 0 to 1 for epochs, for tests. */
  random?: () => number;
}

/**
 * A broker within this process: the default, and the reference for others. One value is one store; each hub that is
 * given the same value is a node, so two hubs in one process behave as two nodes would. Nothing outlives the process.
 *
 * Steps are applied, and announced to every subscribed node, before the call returns its promise. What a listener
 * causes while it is being told something is announced after that, in the same order to all nodes.
 */
export function memoryBroker(options: MemoryBrokerOptions = {}): MemoryBroker {
  return new MemoryBroker(options);
}

/** What {@link memoryBroker} makes. */
export class MemoryBroker implements Broker {
  readonly name = 'memory';
  readonly shared = false;
  /** @internal The logs, which tests wipe and cut. */
  readonly logs: MemoryLogs;
  /** @internal */
  readonly presence: MemoryPresence;
  /** @internal */
  readonly onces: MemoryOnces;
  /** @internal */
  readonly revocations: MemoryRevocations;
  /** @internal */
  readonly records: MemoryRecords;
  /** @internal */
  readonly sessions = new Set<MemorySession>();
  private readonly subscribers = new Map<string, Set<MemorySession>>();
  private readonly deliveries: (() => void)[] = [];
  private delivering = false;

  constructor({ metaTtlMs = 86_400_000, clock = systemClock, random = Math.random }: MemoryBrokerOptions) {
    if (!(metaTtlMs > 0)) {
      throw new RangeError(`memoryBroker: metaTtlMs has to be a positive number of milliseconds, not ${metaTtlMs}`);
    }
    this.onces = new MemoryOnces(clock);
    this.revocations = new MemoryRevocations(clock);
    this.records = new MemoryRecords(clock, (act) => void this.deliveries.push(act));
    this.logs = new MemoryLogs(clock, metaTtlMs, random);
    this.presence = new MemoryPresence(clock, (channel, change) => {
      this.announce(channel, (listener) => listener.onPresence(channel, change));
    });
  }

  open(node: string, listener: BrokerListener): Promise<BrokerSession> {
    const session = new MemorySession(this, node, listener);
    this.sessions.add(session);
    return Promise.resolve(session);
  }

  /**
   * Applies a step, then delivers what it announced. A step that a listener makes is applied at once, and what it
   * announces waits until everyone was told what the listener was told: no session sees two announcements in the other
   * order, and none sees half a step.
   *
   * @internal
   */
  step<T>(apply: () => T): T {
    const result = apply();
    if (this.delivering) return result;
    this.delivering = true;
    try {
      // Sees what is pushed meanwhile.
      for (const deliver of this.deliveries) deliver();
    } finally {
      this.deliveries.length = 0;
      this.delivering = false;
    }
    return result;
  }

  /** @internal Announces to the sessions that are subscribed to a channel. */
  announce(channel: string, tell: (listener: BrokerListener) => void): void {
    this.deliveries.push(() => {
      for (const { listener } of this.subscribers.get(channel) ?? []) tell(listener);
    });
  }

  /** @internal */
  subscribe(channel: string, session: MemorySession): void {
    const sessions = this.subscribers.get(channel);
    if (sessions) sessions.add(session);
    else this.subscribers.set(channel, new Set([session]));
  }

  /** @internal */
  unsubscribe(channel: string, session: MemorySession): void {
    const sessions = this.subscribers.get(channel);
    sessions?.delete(session);
    if (sessions?.size === 0) this.subscribers.delete(channel);
  }

  /** @internal Removes all that a session has. */
  detach(session: MemorySession): void {
    this.sessions.delete(session);
    for (const channel of this.subscribers.keys()) this.unsubscribe(channel, session);
    this.presence.removeOwner(session);
  }
}

/** One node at a {@link MemoryBroker}. */
class MemorySession implements BrokerSession {
  readonly records: RecordStore;
  /** The node's connections by id: references, asked when someone wants to know. */
  private readonly registered = new Map<string, RegisteredConnection>();
  private closed = false;

  constructor(
    /** @internal */
    readonly broker: MemoryBroker,
    readonly node: string,
    readonly listener: BrokerListener,
  ) {
    this.records = memoryRecordStore(this);
  }

  append(
    channel: string,
    retention: Retention,
    tag: string,
    items: readonly AppendItem[],
    note?: string,
  ): Promise<AppendResult> {
    return this.step(() => {
      const { result, envelope } = this.broker.logs.use(channel, (log, now) =>
        log.append(retention, tag, items, now, note),
      );
      if (envelope) this.broker.announce(channel, (listener) => listener.onEnvelope(channel, envelope));
      return result;
    });
  }

  read(channel: string, position: Position | null, limit: number): Promise<ReadResult> {
    return this.step(() =>
      this.broker.logs.use(channel, (log) =>
        position === null ? { status: 'ok', top: log.top, items: [], more: false } : log.read(position, limit),
      ),
    );
  }

  newest(channel: string, limit: number): Promise<{ top: Position; items: readonly StoredItem[] }> {
    return this.step(() => this.broker.logs.use(channel, (log) => ({ top: log.top, items: log.newest(limit) })));
  }

  tops(channels: readonly string[]): Promise<readonly Position[]> {
    return this.step(() => channels.map((channel) => this.broker.logs.use(channel, (log) => log.top)));
  }

  subscribe(channel: string): Promise<void> {
    return this.step(() => this.broker.subscribe(channel, this));
  }

  unsubscribe(channel: string): Promise<void> {
    return this.step(() => this.broker.unsubscribe(channel, this));
  }

  join(channel: string, entry: PresenceEntry): Promise<void> {
    return this.step(() => this.broker.presence.join(channel, entry, entry.recorded ? this.broker : this));
  }

  leave(channel: string, connection: string, graceMs: number): Promise<void> {
    return this.step(() => this.broker.presence.leave(channel, connection, graceMs));
  }

  presence(channel: string): Promise<PresenceAnswer> {
    return this.step(() => this.broker.presence.answer(channel));
  }

  register(connection: RegisteredConnection): Promise<void> {
    return this.step(() => void this.registered.set(connection.id, connection));
  }

  /** Nothing to do: `info` is asked when someone wants to know. */
  update(_connection: RegisteredConnection): Promise<void> {
    return this.step(() => undefined);
  }

  unregister(connection: string): Promise<void> {
    return this.step(() => void this.registered.delete(connection));
  }

  connections({ userId, channel }: { userId?: string; channel?: string }): Promise<ConnectionInfo[]> {
    return this.step(() => {
      const found: ConnectionInfo[] = [];
      for (const { registered } of this.broker.sessions) {
        for (const connection of registered.values()) {
          if (connection.over) continue;
          const info = connection.info();
          if (userId !== undefined && info.userId !== userId) continue;
          if (channel !== undefined && !info.channels.includes(channel)) continue;
          found.push(info);
        }
      }
      return found;
    });
  }

  countElsewhere(subjects: readonly string[]): Promise<readonly number[]> {
    return this.step(() => {
      const counts = new Map(subjects.map((subject) => [subject, 0]));
      for (const session of this.broker.sessions) {
        if (session === this) continue;
        for (const connection of session.registered.values()) {
          if (connection.over) continue;
          for (const subject of subjectsOf(connection.info())) {
            const count = counts.get(subject);
            if (count !== undefined) counts.set(subject, count + 1);
          }
        }
      }
      return subjects.map((subject) => counts.get(subject)!);
    });
  }

  get available(): boolean {
    return !this.closed;
  }

  /** Nodes of one process live and die together. */
  holdsLease(): Promise<boolean> {
    return this.step(() => true);
  }

  revoke(revocations: readonly Revocation[]): Promise<void> {
    return this.step(() => this.broker.revocations.write(revocations));
  }

  revocations(): Promise<readonly Revocation[]> {
    return this.step(() => this.broker.revocations.all());
  }

  putOnce(key: string, text: string, ttlMs: number): Promise<void> {
    return this.step(() => this.broker.onces.put(key, text, ttlMs));
  }

  takeOnce(key: string): Promise<string | undefined> {
    return this.step(() => this.broker.onces.take(key));
  }

  sweep(): Promise<void> {
    return this.step(() => {
      this.broker.onces.sweep();
      this.broker.presence.sweep();
      this.broker.logs.sweep();
    });
  }

  close(): Promise<void> {
    if (!this.closed) {
      this.closed = true;
      this.broker.step(() => this.broker.detach(this));
    }
    return Promise.resolve();
  }

  /** @internal Applies a step at once; refuses it after the end. */
  step<T>(apply: () => T): Promise<T> {
    return new Promise((resolve) => {
      if (this.closed) {
        throw new RealtimeException('broker_unavailable', `The broker session of node ${this.node} is closed`);
      }
      resolve(this.broker.step(apply));
    });
  }
}

/** The records, as a node's session reaches them. */
function memoryRecordStore(session: MemorySession): RecordStore {
  const { broker } = session;
  const { records } = broker;
  const step = <T>(apply: () => T): Promise<T> => session.step(apply);
  return {
    get lasting() {
      return broker.sessions.size > 1;
    },
    create: (record, forMs) => step(() => records.create(record, forMs)),
    read: (id) => step(() => records.read(id)),
    attach: (id, ack, forMs) => step(() => records.attach(id, ack, forMs, session)),
    look: (id, link, ack, forMs) => step(() => records.look(id, link, ack, forMs)),
    acknowledge: (id, ack) => step(() => records.acknowledge(id, ack)),
    detach: (id, link, forMs) => step(() => records.detach(id, link, forMs)),
    write: (id, state) => step(() => records.write(id, state)),
    enter: (id, subscription) => step(() => records.enter(id, subscription)),
    leave: (id, channel) => step(() => records.leave(id, channel)),
    push: (id, items) => step(() => records.push(id, items)),
    begin: (id, attempt, forMs) => step(() => records.begin(id, attempt, forMs)),
    extend: (id, attempt, forMs) => step(() => records.extend(id, attempt, forMs)),
    commit: (id, attempt, answers) => step(() => records.commit(id, attempt, answers)),
    note: (id, call, attempt, forMs) => step(() => records.note(id, call, attempt, forMs, session)),
    cancel: (id, call) => step(() => records.cancel(id, call)),
    end: (id, over, forMs) => step(() => records.end(id, over, forMs)),
    claim: (count, over, forMs) => step(() => records.claim(count, over, forMs)),
    settle: (id) => step(() => records.settle(id)),
    count: (subjects) => step(() => records.count(subjects)),
    ofUser: (userId) => step(() => records.ofUser(userId)),
    list: (filter) => step(() => records.list(filter)),
  };
}
