import { Deadlines, type Scheduled } from '../hub/deadlines.js';
import type { BrokerListener } from '../hub/ports/broker.js';
import type { Clock } from '../hub/ports/clock.js';
import {
  MAX_INBOX_BYTES,
  MAX_INBOX_ENTRIES,
  TOMBSTONE_MS,
  type ConnectionRecord,
  type EndedRecord,
  type InboxEntry,
  type InboxItem,
  type ListedRecord,
  type RecordOrigin,
  type RecordState,
  type RecordView,
  type SendAttempt,
  type SendVerdict,
  type StoredSubscription,
} from '../hub/ports/records.js';
import { userSubject } from '../hub/ports/subjects.js';
import { encodeError } from '../protocol/encode.js';
import { ERRORS } from '../protocol/errors.js';
import type { DisconnectData, FrameId } from '../protocol/frames.js';

/** A node, as records know it. */
export interface RecordNode {
  readonly node: string;
  readonly listener: BrokerListener;
}

interface NotedCall {
  until: number;
  readonly seq: number;
  readonly attempt: string;
  readonly node: RecordNode;
  ended?: boolean;
}

interface Pending extends SendAttempt {
  until: number;
}

/** A record; `dueAt` is its deadline, or the end of a claim. */
class Stored implements Scheduled {
  dueAt: number | undefined;
  state: RecordState;
  readonly subscriptions = new Map<string, StoredSubscription>();
  nextSlot = 0;
  node: RecordNode | undefined;
  link = 0;
  inbox: InboxEntry[] = [];
  inboxBytes = 0;
  newest = 0;
  done = 0;
  doneHash = '';
  doneBy = '';
  answers = '[]';
  pending: Pending | undefined;
  readonly calls = new Map<string, NotedCall>();
  over: DisconnectData | undefined;
  attempts = 0;
  settled = false;

  constructor(
    readonly origin: RecordOrigin,
    state: RecordState,
  ) {
    this.state = state;
  }

  get record(): ConnectionRecord {
    const { origin, state, over } = this;
    const subscriptions = [...this.subscriptions.values()];
    return { origin, subscriptions, ...state, ...(over === undefined ? {} : { over }) };
  }
}

/** The records of connections, in this process. */
export class MemoryRecords {
  private readonly records = new Map<string, Stored>();
  private readonly due = new Deadlines<Stored>();
  private readonly bySubject = new Map<string, Set<string>>();

  constructor(
    private readonly clock: Clock,
    /** Has a node told, after this step. */
    private readonly tell: (act: () => void) => void,
  ) {}

  create({ origin, subscriptions, over: _over, ...state }: ConnectionRecord, forMs: number): void {
    const stored = new Stored(origin, state);
    for (const subscription of subscriptions) this.add(stored, subscription);
    this.records.set(origin.id, stored);
    for (const subject of origin.subjects) {
      const ids = this.bySubject.get(subject);
      if (ids === undefined) this.bySubject.set(subject, new Set([origin.id]));
      else ids.add(origin.id);
    }
    this.dueAfter(stored, forMs);
  }

  read(id: string): ConnectionRecord | undefined {
    return this.find(id)?.record;
  }

  attach(id: string, ack: number, forMs: number, node: RecordNode): RecordView | undefined {
    const stored = this.find(id);
    if (stored === undefined) return undefined;
    if (stored.over === undefined) {
      stored.link++;
      if (stored.node !== node) this.nudge(stored);
      stored.node = node;
    }
    return this.view(stored, stored.link, ack, forMs);
  }

  look(id: string, link: number, ack: number, forMs: number): RecordView | undefined {
    const stored = this.find(id);
    return stored === undefined ? undefined : this.view(stored, link, ack, forMs);
  }

  acknowledge(id: string, ack: number): void {
    const stored = this.live(id);
    if (stored !== undefined) this.drop(stored, ack);
  }

  detach(id: string, link: number, forMs: number): void {
    const stored = this.live(id);
    if (stored?.link === link) this.dueAfter(stored, forMs);
  }

  write(id: string, state: RecordState): void {
    const stored = this.live(id);
    if (stored === undefined) return;
    stored.state = { ...stored.state, ...state };
    if (state.user !== undefined) this.nudge(stored);
  }

  enter(id: string, subscription: Omit<StoredSubscription, 'slot'>): number | undefined {
    const stored = this.live(id);
    if (stored === undefined) return undefined;
    const slot = this.add(stored, subscription);
    this.nudge(stored);
    return slot;
  }

  leave(id: string, channel: string): void {
    const stored = this.live(id);
    if (stored?.subscriptions.delete(channel) === true) this.nudge(stored);
  }

  push(id: string, items: readonly InboxItem[]): 'pushed' | 'full' | 'gone' {
    const stored = this.live(id);
    if (stored === undefined) return 'gone';
    const wanted = items.filter(({ call }) => {
      const noted = call === undefined ? undefined : stored.calls.get(call.key);
      return call === undefined || (noted?.attempt === call.attempt && noted.ended !== true);
    });
    const bytes = wanted.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0);
    if (stored.inbox.length + wanted.length > MAX_INBOX_ENTRIES || stored.inboxBytes + bytes > MAX_INBOX_BYTES) {
      return 'full';
    }
    for (const { text, call, last } of wanted) {
      this.append(stored, text);
      if (call === undefined || last !== true) continue;
      const noted = stored.calls.get(call.key)!;
      if (noted.seq > stored.done) noted.ended = true;
      else stored.calls.delete(call.key);
    }
    if (wanted.length > 0) this.nudge(stored);
    return 'pushed';
  }

  begin(id: string, { seq, hash, attempt }: SendAttempt, forMs: number): SendVerdict {
    const stored = this.live(id);
    if (stored === undefined) return { verdict: 'gone' };
    const now = this.clock.now();
    const { done, pending } = stored;
    if (seq === done) {
      return stored.doneHash === hash ? { verdict: 'done', answers: stored.answers } : { verdict: 'mismatch' };
    }
    if (seq !== done + 1) return { verdict: 'sequence', expected: done + 1 };
    if (pending !== undefined && pending.hash !== hash) return { verdict: 'mismatch' };
    if (pending !== undefined && pending.until > now && pending.attempt !== attempt) return { verdict: 'in_progress' };
    stored.pending = { seq, hash, attempt, until: now + forMs };
    if (pending === undefined || pending.attempt === attempt) return { verdict: 'run', record: stored.record };
    const ended: string[] = [];
    for (const [key, call] of stored.calls) {
      if (call.seq !== seq) continue;
      if (call.ended === true) ended.push(key);
      else stored.calls.delete(key);
    }
    return { verdict: 'again', record: stored.record, ended };
  }

  extend(id: string, attempt: SendAttempt, forMs: number): boolean {
    const pending = this.live(id)?.pending;
    if (pending?.attempt !== attempt.attempt) return false;
    pending.until = this.clock.now() + forMs;
    return true;
  }

  commit(id: string, { seq, attempt }: SendAttempt, answers: string): boolean {
    const stored = this.live(id);
    if (stored === undefined) return false;
    const { pending } = stored;
    if (stored.done === seq && stored.doneBy === attempt) return true;
    if (pending?.attempt !== attempt || pending.seq !== seq) return false;
    stored.doneBy = attempt;
    stored.done = seq;
    stored.doneHash = pending.hash;
    stored.answers = answers;
    stored.pending = undefined;
    for (const [key, call] of stored.calls) if (call.ended === true) stored.calls.delete(key);
    return true;
  }

  note(id: string, key: string, { seq, attempt }: SendAttempt, forMs: number, node: RecordNode): boolean {
    const stored = this.live(id);
    if (stored === undefined) return false;
    const until = this.clock.now() + forMs;
    const known = stored.calls.get(key);
    if (known?.ended === true) return false;
    if (known !== undefined && known.attempt === attempt) known.until = until;
    else if (stored.pending?.attempt === attempt) stored.calls.set(key, { until, seq, attempt, node });
    else return false;
    return true;
  }

  cancel(id: string, call: string): void {
    const node = this.live(id)?.calls.get(call)?.node;
    if (node !== undefined) this.tell(() => node.listener.onNudge(id, call));
  }

  end(id: string, over: DisconnectData, forMs: number): ConnectionRecord | undefined {
    const stored = this.live(id);
    return stored === undefined ? undefined : this.finish(stored, over, forMs).record;
  }

  claim(count: number, over: DisconnectData, forMs: number): EndedRecord[] {
    const claimed: EndedRecord[] = [];
    for (const stored of this.due.takeDue(this.clock.now())) {
      if (stored.settled) this.records.delete(stored.origin.id);
      else if (claimed.length >= count) this.due.set(stored, this.clock.now());
      else claimed.push(this.finish(stored, over, forMs));
    }
    return claimed;
  }

  settle(id: string): void {
    const stored = this.records.get(id);
    if (stored?.over === undefined || stored.settled) return;
    stored.settled = true;
    stored.subscriptions.clear();
    stored.inbox = [];
    stored.state = {};
    this.dueAfter(stored, TOMBSTONE_MS);
  }

  count(subjects: readonly string[]): number[] {
    return subjects.map((subject) => this.bySubject.get(subject)?.size ?? 0);
  }

  ofUser(userId: string): string[] {
    return [...(this.bySubject.get(userSubject(userId)) ?? [])];
  }

  list({ userId, channel }: { userId?: string; channel?: string }): ListedRecord[] {
    const found: ListedRecord[] = [];
    for (const stored of this.records.values()) {
      if (stored.over !== undefined) continue;
      if (userId !== undefined && stored.state.user?.id !== userId) continue;
      if (channel !== undefined && !stored.subscriptions.has(channel)) continue;
      found.push({ record: stored.record, node: stored.node?.node ?? '' });
    }
    return found;
  }

  /** Loses all, as a broker that restarts without its data does. */
  wipe(): void {
    for (const stored of this.records.values()) this.due.delete(stored);
    this.records.clear();
    this.bySubject.clear();
  }

  private find(id: string): Stored | undefined {
    const stored = this.records.get(id);
    const forgotten = stored?.settled === true && (stored.dueAt ?? 0) <= this.clock.now();
    return forgotten ? undefined : stored;
  }

  private live(id: string): Stored | undefined {
    const stored = this.records.get(id);
    return stored?.over === undefined ? stored : undefined;
  }

  private view(stored: Stored, link: number, ack: number, forMs: number): RecordView {
    if (stored.over === undefined && stored.link === link) {
      this.dueAfter(stored, forMs);
      this.drop(stored, ack);
      this.giveUpCalls(stored);
    }
    const { record, newest, inbox } = stored;
    return { record, link: stored.link, newest, entries: inbox.filter(({ n }) => n > ack) };
  }

  /** Removes what has arrived. */
  private drop(stored: Stored, ack: number): void {
    const kept = stored.inbox.findIndex(({ n }) => n > ack);
    for (const { text } of stored.inbox.splice(0, kept === -1 ? stored.inbox.length : kept)) {
      stored.inboxBytes -= Buffer.byteLength(text);
    }
  }

  /** Answers the calls whose node has not been heard for too long. */
  private giveUpCalls(stored: Stored): void {
    const now = this.clock.now();
    for (const [key, { until, seq }] of stored.calls) {
      if (until > now || seq > stored.done) continue;
      stored.calls.delete(key);
      const { message } = ERRORS.outcome_unknown;
      this.append(stored, encodeError(JSON.parse(key) as FrameId, { code: 'outcome_unknown', message }));
    }
  }

  private append(stored: Stored, text: string): void {
    stored.newest++;
    stored.inbox.push({ n: stored.newest, text });
    stored.inboxBytes += Buffer.byteLength(text);
  }

  private add(stored: Stored, subscription: Omit<StoredSubscription, 'slot'>): number {
    const known = stored.subscriptions.get(subscription.channel);
    if (known !== undefined) return known.slot;
    const slot = stored.nextSlot++;
    stored.subscriptions.set(subscription.channel, { ...subscription, slot });
    return slot;
  }

  private finish(stored: Stored, over: DisconnectData, forMs: number): EndedRecord {
    const { origin } = stored;
    stored.attempts++;
    if (stored.over === undefined) {
      stored.over = over;
      this.nudge(stored);
      for (const subject of origin.subjects) {
        const ids = this.bySubject.get(subject);
        ids?.delete(origin.id);
        if (ids?.size === 0) this.bySubject.delete(subject);
      }
    }
    this.dueAfter(stored, forMs);
    return { record: stored.record, attempt: stored.attempts };
  }

  private dueAfter(stored: Stored, forMs: number): void {
    this.due.set(stored, this.clock.now() + forMs);
  }

  private nudge({ node, origin }: Stored): void {
    if (node !== undefined) this.tell(() => node.listener.onNudge(origin.id));
  }
}
