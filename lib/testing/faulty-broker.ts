import { MemoryBroker } from '../brokers/memory.broker.js';
import type { Broker, BrokerListener, BrokerSession, Envelope, PresenceChange } from '../hub/ports/broker.js';
import type { RecordStore } from '../hub/ports/records.js';
import { RealtimeException } from '../protocol/errors.js';
import { memorySurgery } from './log-surgery.js';
import type { LogSurgery } from './log-surgery.js';

/** Which announcement a fate is for. */
export type AnnouncementKind = 'envelope' | 'presence' | 'nudge';

/**
 * What becomes of an announcement. `delay`: it is held until {@link FaultySession.release}, and so is all that follows
 * it, whatever its fate, as nothing overtakes within a session.
 */
export type AnnouncementFate = 'deliver' | 'lose' | 'repeat' | 'delay';

/** The calls that can fail. */
export type CallName = Exclude<keyof BrokerSession, 'close' | 'records' | 'available'>;
/** The calls about records that can fail. */
export type RecordCallName = Exclude<keyof RecordStore, 'lasting'>;

/**
 * What becomes of a call. `unavailable`: nothing is applied, `broker_unavailable`. `unapplied` and `applied`: both
 * reject with `outcome_unknown`, and it is as they say. `delay`: applied at once, answered by
 * {@link FaultySession.answer}.
 */
export type CallFate = 'ok' | 'unavailable' | 'unapplied' | 'applied' | 'delay';

/**
 * A broker whose sessions fail as they are told, and only so: nothing is random, so that a run can be repeated. The
 * sessions of a node are found by {@link FaultyBroker.session}. Surgery comes with a memory broker, and has to be given
 * for another.
 */
export class FaultyBroker implements Broker {
  readonly name: string;
  readonly shared: boolean;
  private readonly opened = new Map<string, FaultySession>();

  constructor(
    private readonly inner: Broker,
    private readonly surgery: LogSurgery | undefined = inner instanceof MemoryBroker ? memorySurgery(inner) : undefined,
  ) {
    this.name = inner.name;
    this.shared = inner.shared;
  }

  async open(node: string, listener: BrokerListener): Promise<FaultySession> {
    const faults = new Faults(listener);
    const session = new FaultySession(await this.inner.open(node, faults.listener), faults);
    this.opened.set(node, session);
    return session;
  }

  /** The newest session of a node. */
  session(node: string): FaultySession {
    const session = this.opened.get(node);
    if (!session) throw new Error(`Node ${node} has not opened a session`);
    return session;
  }

  /** The newest session of each node. */
  get sessions(): FaultySession[] {
    return [...this.opened.values()];
  }

  /** Every log is gone; see {@link LogSurgery.wipe}. */
  async wipe(): Promise<void> {
    await this.operable.wipe();
  }

  /** A failover to a prefix; see {@link LogSurgery.diverge}. */
  async diverge(channel: string, toOffset: number): Promise<void> {
    await this.operable.diverge(channel, toOffset);
  }

  /** The channel's history is gone; see {@link LogSurgery.trim}. */
  async trim(channel: string): Promise<void> {
    await this.operable.trim(channel);
  }

  private get operable(): LogSurgery {
    if (!this.surgery) throw new Error(`Nothing is known of how to operate on ${this.name}`);
    return this.surgery;
  }
}

/** Makes a {@link FaultyBroker}. */
export function faultyBroker(inner: Broker, surgery?: LogSurgery): FaultyBroker {
  return new FaultyBroker(inner, surgery);
}

/** The announcements of one session, between the broker and the hub. */
class Faults {
  readonly fates: Record<AnnouncementKind, AnnouncementFate[]> = { envelope: [], presence: [], nudge: [] };
  readonly held: (() => void)[] = [];
  paused = false;
  readonly listener: BrokerListener;

  constructor(readonly hub: BrokerListener) {
    this.listener = {
      onEnvelope: (channel: string, envelope: Envelope) =>
        this.pass('envelope', () => hub.onEnvelope(channel, envelope)),
      onPresence: (channel: string, change: PresenceChange) =>
        this.pass('presence', () => hub.onPresence(channel, change)),
      onResumed: () => this.deliver(() => hub.onResumed()),
      onClaim: (claim) => hub.onClaim(claim),
      onFenced: () => hub.onFenced(),
      onHold: (hold) => hub.onHold(hold),
      onNudge: (record, call) => this.pass('nudge', () => hub.onNudge(record, call)),
    };
  }

  deliver(announcement: () => void, holding = this.held.length > 0): void {
    if (holding) this.held.push(announcement);
    else announcement();
  }

  private pass(kind: AnnouncementKind, announcement: () => void): void {
    if (this.paused) return;
    const fate = this.fates[kind].shift() ?? 'deliver';
    if (fate === 'lose') return;
    this.deliver(announcement, fate === 'delay' || this.held.length > 0);
    if (fate === 'repeat') this.deliver(announcement);
  }
}

/** A session that fails as it is told. */
export class FaultySession implements BrokerSession {
  readonly records: RecordStore;
  private readonly callFates = new Map<CallName | RecordCallName, CallFate[]>();
  private readonly unanswered: (() => void)[] = [];

  readonly append = this.faulty('append');
  readonly read = this.faulty('read');
  readonly newest = this.faulty('newest');
  readonly tops = this.faulty('tops');
  readonly subscribe = this.faulty('subscribe');
  readonly unsubscribe = this.faulty('unsubscribe');
  readonly join = this.faulty('join');
  readonly leave = this.faulty('leave');
  readonly presence = this.faulty('presence');
  readonly register = this.faulty('register');
  readonly update = this.faulty('update');
  readonly unregister = this.faulty('unregister');
  readonly connections = this.faulty('connections');
  readonly countElsewhere = this.faulty('countElsewhere');
  readonly holdsLease = this.faulty('holdsLease');
  readonly revoke = this.faulty('revoke');
  readonly revocations = this.faulty('revocations');
  readonly putOnce = this.faulty('putOnce');
  readonly takeOnce = this.faulty('takeOnce');
  readonly sweep = this.faulty('sweep');

  constructor(
    private readonly inner: BrokerSession,
    private readonly faults: Faults,
  ) {
    this.records = new Proxy(inner.records, {
      get: (store, name: keyof RecordStore) => {
        if (name === 'lasting') return store.lasting;
        return (...args: unknown[]) =>
          this.meet(name, () => (store[name] as (...args: unknown[]) => Promise<unknown>)(...args));
      },
    });
  }

  get available(): boolean {
    return !this.faults.paused && this.inner.available;
  }

  close(): Promise<void> {
    return this.inner.close();
  }

  /** Sets the fates of the next announcements of a kind, one each, after those set before. Later ones are delivered. */
  announcements(kind: AnnouncementKind, ...fates: AnnouncementFate[]): void {
    this.faults.fates[kind].push(...fates);
  }

  /** Sets the fates of the next calls of a name, one each, after those set before. Later ones succeed. */
  calls(name: CallName | RecordCallName, ...fates: CallFate[]): void {
    const known = this.callFates.get(name);
    if (known) known.push(...fates);
    else this.callFates.set(name, fates);
  }

  /** How many announcements are held. */
  get held(): number {
    return this.faults.held.length;
  }

  /** How many calls wait for their answer. */
  get waiting(): number {
    return this.unanswered.length;
  }

  /** Delivers the oldest of the held announcements: all, unless told how many. */
  release(count = Infinity): void {
    const { held } = this.faults;
    for (let i = 0; i < count && held[0]; i++) {
      held[0]();
      held.shift(); // only now: what it causes has to wait behind the others
    }
  }

  /** Answers the oldest of the delayed calls: all, unless told how many. */
  answer(count = Infinity): void {
    for (const settle of this.unanswered.splice(0, count)) settle();
  }

  /** The connection to the broker breaks: announcements are lost, the held ones too, and calls are `unavailable`. */
  pause(): void {
    this.faults.paused = true;
    this.faults.held.length = 0;
  }

  /** The connection is there again, and the hub is told so. */
  resume(): void {
    this.faults.paused = false;
    this.faults.hub.onResumed();
  }

  /** No more faults: fates are forgotten, held announcements delivered, delayed calls answered, the connection there. */
  heal(): void {
    for (const fates of Object.values(this.faults.fates)) fates.length = 0;
    this.callFates.clear();
    this.release();
    this.answer();
    if (this.faults.paused) this.resume();
  }

  private faulty<N extends CallName>(name: N): BrokerSession[N] {
    const call = (...args: unknown[]): Promise<unknown> =>
      this.meet(name, () => (this.inner[name] as (...args: unknown[]) => Promise<unknown>)(...args));
    return call as BrokerSession[N];
  }

  /** Makes a call, as its fate has it. */
  private async meet(name: CallName | RecordCallName, call: () => Promise<unknown>): Promise<unknown> {
    const fate = this.callFates.get(name)?.shift() ?? 'ok';
    if (this.faults.paused || fate === 'unavailable') throw new RealtimeException('broker_unavailable');
    if (fate === 'unapplied') throw new RealtimeException('outcome_unknown');
    const result = call();
    if (fate === 'delay') {
      result.catch(() => undefined); // seen when it is answered
      await new Promise<void>((resolve) => this.unanswered.push(resolve));
    }
    const value = await result;
    if (fate === 'applied') throw new RealtimeException('outcome_unknown');
    return value;
  }
}
