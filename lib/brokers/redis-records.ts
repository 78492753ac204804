import { randomUUID } from 'node:crypto';
import type {
  ConnectionRecord,
  EndedRecord,
  InboxItem,
  ListedRecord,
  RecordState,
  RecordStore,
  RecordView,
  SendAttempt,
  SendVerdict,
  StoredIdentity,
  StoredSubscription,
} from '../hub/ports/records.js';
import { userSubject } from '../hub/ports/subjects.js';
import type { DisconnectData } from '../protocol/frames.js';
import type { CallOptions, RedisCommands } from './redis-commands.js';
import { RedisDue } from './redis-due.js';
import type { RedisKeys } from './redis-keys.js';
import * as scripts from './redis-record-scripts.js';
import type { RedisScript } from './redis-script.js';
import type { RedisSubscriber } from './redis-subscriber.js';

/** A record counts for its subjects for so long after it was last looked after, ms. */
const COUNTED_MS = 600_000;

/** What records need of their session. */
export interface RecordSession {
  /** This node's id, as it is now. */
  readonly node: string;
  /** Whether Redis was there for long enough that what did not come back is gone. */
  readonly vigilant: boolean;
  readonly sharded: boolean;
  nudged(record: string, call?: string): void;
}

type Fields = ReadonlyMap<string, string>;

/** The records of connections in Redis. */
export class RedisRecords implements RecordStore {
  readonly lasting = true;
  /** What links of this session are known by. */
  private readonly id = randomUUID();
  private readonly due: RedisDue;
  private listening: Promise<void> | undefined;

  constructor(
    private readonly commands: RedisCommands,
    private readonly keys: RedisKeys,
    private readonly subscriber: RedisSubscriber,
    private readonly session: RecordSession,
  ) {
    this.due = new RedisDue(commands, keys.records);
  }

  async create(record: ConnectionRecord, forMs: number): Promise<void> {
    const { origin } = record;
    const { id } = origin;
    const args = [id, forMs, 'o', JSON.stringify(origin), ...fieldsOf(record)];
    // Looked after from the first, whatever becomes of this node.
    await this.due.addAfter(forMs, id);
    await this.countFor(record);
    await this.run(scripts.CREATE, id, args, { effect: 'repeat' }, this.index(id));
  }

  async read(id: string): Promise<ConnectionRecord | undefined> {
    const key = this.keys.record(id);
    const fields = await this.commands.call(({ redis }) => redis.hgetall(key), { effect: 'read', order: key });
    return recordOf(new Map(Object.entries(fields)));
  }

  async attach(id: string, ack: number, forMs: number): Promise<RecordView | undefined> {
    await this.listen();
    const args = [this.id, this.session.node, ack, forMs];
    const [fields, inbox, former] = (await this.run(scripts.ATTACH, id, args, { effect: 'repeat' })) as View;
    if (former !== this.id) this.nudge(former, id);
    return viewOf(fields, inbox, ack);
  }

  async look(id: string, link: number, ack: number, forMs: number): Promise<RecordView | undefined> {
    const [fields, inbox] = (await this.run(scripts.LOOK, id, [link, ack, forMs], { effect: 'repeat' })) as View;
    return viewOf(fields, inbox, ack);
  }

  async acknowledge(id: string, ack: number): Promise<void> {
    await this.run(scripts.ACKNOWLEDGE, id, [ack], { effect: 'repeat' });
  }

  async detach(id: string, link: number, forMs: number): Promise<void> {
    await this.run(scripts.DETACH, id, [link, forMs], { effect: 'repeat' });
  }

  async write(id: string, state: RecordState): Promise<void> {
    const fields = fieldsOf(state);
    if (fields.length === 0) return;
    const node = (await this.run(scripts.WRITE, id, fields, { effect: 'repeat' })) as string;
    if (state.user !== undefined) this.nudge(node, id);
  }

  async enter(id: string, { channel, start, trusted }: Omit<StoredSubscription, 'slot'>): Promise<number | undefined> {
    const args = [channel, trusted ? 1 : 0, start];
    const [slot, node] = (await this.run(scripts.ENTER, id, args, { effect: 'repeat' })) as [string?, string?];
    this.nudge(node, id);
    return slot === undefined ? undefined : Number(slot);
  }

  async leave(id: string, channel: string): Promise<void> {
    this.nudge((await this.run(scripts.LEAVE, id, [channel], { effect: 'repeat' })) as string, id);
  }

  async push(id: string, items: readonly InboxItem[]): Promise<'pushed' | 'full' | 'gone'> {
    const args = items.flatMap(({ text, call, last }) => [text, call?.key ?? '', call?.attempt ?? '', last ? '1' : '']);
    const answer = await this.run(scripts.PUSH, id, args, { effect: 'once' });
    const [outcome, node] = answer as ['pushed' | 'full' | 'gone', string];
    this.nudge(node, id);
    return outcome;
  }

  async begin(id: string, { seq, hash, attempt }: SendAttempt, forMs: number): Promise<SendVerdict> {
    const args = [seq, hash, attempt, forMs];
    const answer = await this.run(scripts.BEGIN, id, args, { effect: 'repeat' }, this.keys.answers(id));
    const [verdict, rest, ended = []] = answer as [SendVerdict['verdict'], string | string[], string[]?];
    if (verdict === 'done') return { verdict, answers: rest as string };
    if (verdict === 'sequence') return { verdict, expected: Number(rest) };
    if (verdict !== 'run' && verdict !== 'again') return { verdict };
    const record = recordOf(mapOf(rest as string[]))!;
    return verdict === 'run' ? { verdict, record } : { verdict, record, ended };
  }

  async extend(id: string, { seq, hash, attempt }: SendAttempt, forMs: number): Promise<boolean> {
    return (await this.run(scripts.EXTEND, id, [seq, hash, attempt, forMs], { effect: 'repeat' })) === 1;
  }

  async commit(id: string, { seq, attempt }: SendAttempt, answers: string): Promise<boolean> {
    const args = [seq, attempt, answers];
    return (await this.run(scripts.COMMIT, id, args, { effect: 'repeat' }, this.keys.answers(id))) === 1;
  }

  async note(id: string, call: string, { seq, attempt }: SendAttempt, forMs: number): Promise<boolean> {
    await this.listen();
    const args = [call, seq, attempt, this.id, forMs];
    return (await this.run(scripts.NOTE, id, args, { effect: 'repeat' })) === 1;
  }

  async cancel(id: string, call: string): Promise<void> {
    this.nudge((await this.run(scripts.RUNNER, id, [call], { effect: 'read' })) as string, id, call);
  }

  async end(id: string, over: DisconnectData, forMs: number): Promise<ConnectionRecord | undefined> {
    const args = [id, JSON.stringify(over), randomUUID(), forMs];
    const answer = await this.run(scripts.END, id, args, { effect: 'repeat' }, this.index(id));
    const [fields, node] = answer as [string[]?, string?];
    const record = fields === undefined ? undefined : recordOf(mapOf(fields));
    if (record === undefined) return undefined;
    this.nudge(node, id);
    await Promise.all([this.due.addAfter(forMs, id), this.uncount(record)]);
    return record;
  }

  async claim(count: number, over: DisconnectData, forMs: number): Promise<EndedRecord[]> {
    const claimed: EndedRecord[] = [];
    let taken = count;
    // Most of what is taken is only looked at, as its peer has come back meanwhile.
    while (this.session.vigilant && taken >= count && claimed.length < count) {
      taken = await this.lookAfter(count, over, forMs, claimed);
    }
    return claimed;
  }

  /** Takes records that are due, and claims those whose deadline has passed; tells how many were taken. */
  private async lookAfter(count: number, over: DisconnectData, forMs: number, claimed: EndedRecord[]): Promise<number> {
    const { till, members } = await this.due.take(count, forMs);
    const gone: string[] = [];
    await Promise.all(
      members.map(async (id) => {
        const args = [id, JSON.stringify(over), forMs];
        const answer = await this.run(scripts.CLAIM, id, args, { effect: 'once' }, this.index(id));
        const [verdict, fields = [], rest = ''] = answer as [string, string[]?, string?];
        const record = recordOf(mapOf(fields));
        if (verdict === 'gone' || record === undefined) {
          gone.push(id);
        } else if (verdict === 'later') {
          await Promise.all([this.due.addAt(rest, id), record.over === undefined && this.countFor(record)]);
        } else {
          this.nudge(rest, id);
          await this.uncount(record);
          claimed.push({ record, attempt: Number(mapOf(fields).get('w')) });
        }
      }),
    );
    await this.due.forget(till, gone);
    return members.length;
  }

  async settle(id: string): Promise<void> {
    await this.run(scripts.SETTLE, id, [], { effect: 'repeat' }, this.keys.answers(id));
  }

  async count(subjects: readonly string[]): Promise<readonly number[]> {
    return (await Promise.all(subjects.map((subject) => this.counted(subject)))).map(({ length }) => length);
  }

  ofUser(userId: string): Promise<readonly string[]> {
    return this.counted(userSubject(userId));
  }

  async list({ userId, channel }: { userId?: string; channel?: string }): Promise<ListedRecord[]> {
    const ids = userId === undefined ? await this.all() : await this.ofUser(userId);
    const found: ListedRecord[] = [];
    await Promise.all(
      ids.map(async (id) => {
        const key = this.keys.record(id);
        const fields = await this.commands.call(({ redis }) => redis.hgetall(key), { effect: 'read' });
        const record = recordOf(new Map(Object.entries(fields)));
        if (record === undefined || record.over !== undefined) return;
        if (channel !== undefined && !record.subscriptions.some((known) => known.channel === channel)) return;
        found.push({ record, node: fields.N ?? '' });
      }),
    );
    return found;
  }

  private async all(): Promise<string[]> {
    const partitions = Array.from({ length: this.keys.partitions }, (_, partition) => {
      const key = this.keys.recordsIn(partition);
      return this.commands.call(({ redis }) => redis.smembers(key), { effect: 'read' });
    });
    return (await Promise.all(partitions)).flat();
  }

  private async counted(subject: string): Promise<string[]> {
    const keys = [this.keys.recordsOf(subject)];
    return (await this.commands.run(scripts.COUNTED, keys, [COUNTED_MS], { effect: 'read' })) as string[];
  }

  private async countFor({ origin: { id, subjects } }: ConnectionRecord): Promise<void> {
    await Promise.all(
      subjects.map((subject) => {
        const keys = [this.keys.recordsOf(subject)];
        return this.commands.run(scripts.COUNT_ONE, keys, [id, COUNTED_MS], { effect: 'repeat' });
      }),
    );
  }

  private async uncount({ origin: { id, subjects } }: ConnectionRecord): Promise<void> {
    await Promise.all(
      subjects.map((subject) => {
        const key = this.keys.recordsOf(subject);
        return this.commands.call(({ redis }) => redis.zrem(key, id), { effect: 'repeat' });
      }),
    );
  }

  private index(id: string): string {
    return this.keys.recordsIn(this.keys.partitionOf(id));
  }

  private run(
    script: RedisScript,
    id: string,
    args: readonly (string | number)[],
    options: Pick<CallOptions, 'effect'>,
    ...keys: string[]
  ): Promise<unknown> {
    const record = this.keys.record(id);
    const bytes = args.reduce<number>((sum, arg) => sum + String(arg).length, 0);
    const all = [record, this.keys.inbox(id), ...keys];
    return this.commands.run(script, all, args, { ...options, order: record, bytes });
  }

  /** Hears what it is told of its records, from its first link on. */
  private listen(): Promise<void> {
    this.listening ??= this.subscriber
      .subscribe(this.keys.nudges(this.id), this.keys.partitionOf(this.id), (message) => {
        const [record, call] = JSON.parse(message.toString()) as [string, string?];
        this.session.nudged(record, call);
      })
      .catch((error: unknown) => {
        this.listening = undefined;
        throw error;
      });
    return this.listening;
  }

  /** Tells a session to look at a record. Where that fails, it looks by itself with the next poll. */
  private nudge(session: string | undefined, id: string, call?: string): void {
    if (session === undefined || session === '') return;
    if (session === this.id) {
      this.session.nudged(id, call);
      return;
    }
    const name = this.keys.nudges(session);
    const message = JSON.stringify(call === undefined ? [id] : [id, call]);
    const { sharded } = this.session;
    this.commands
      .call(({ redis }) => (sharded ? redis.spublish(name, message) : redis.publish(name, message)), {
        effect: 'repeat',
      })
      .catch(() => undefined);
  }
}

type View = [fields?: string[], inbox?: string[], former?: string];

function viewOf(flat: string[] = [], inbox: string[] = [], ack: number): RecordView | undefined {
  const fields = mapOf(flat);
  const record = recordOf(fields);
  if (record === undefined) return undefined;
  const entries = inbox.map((entry) => {
    const space = entry.indexOf(' ');
    return { n: Number(entry.slice(0, space)), text: entry.slice(space + 1) };
  });
  const newest = Number(fields.get('i') ?? 0);
  return { record, link: Number(fields.get('l') ?? 0), newest, entries: entries.filter(({ n }) => n > ack) };
}

function mapOf(flat: readonly string[]): Map<string, string> {
  const fields = new Map<string, string>();
  for (let i = 0; i < flat.length; i += 2) fields.set(flat[i]!, flat[i + 1]!);
  return fields;
}

/** The record that a hash holds; `undefined` where there is none. */
function recordOf(fields: Fields): ConnectionRecord | undefined {
  const origin = fields.get('o');
  if (origin === undefined) return undefined;
  const subscriptions: StoredSubscription[] = [];
  for (const [name, value] of fields) {
    if (!name.startsWith('s:')) continue;
    const [slot, trusted, start] = value.split(' ') as [string, string, string];
    subscriptions.push({ channel: name.slice(2), slot: Number(slot), trusted: trusted === '1', start });
  }
  const [client, user, data, askAt, over] = ['c', 'u', 'd', 'f', 'v'].map((name) => fields.get(name));
  return {
    origin: JSON.parse(origin) as ConnectionRecord['origin'],
    subscriptions,
    ...(client === undefined ? {} : { client }),
    ...(user === undefined ? {} : { user: JSON.parse(user) as StoredIdentity }),
    ...(data === undefined ? {} : { data }),
    ...(askAt === undefined ? {} : { askAt: Number(askAt) }),
    ...(over === undefined ? {} : { over: JSON.parse(over) as DisconnectData }),
  };
}

/** What a hash holds of a state: fields and values. */
function fieldsOf({ client, user, data, askAt }: RecordState): (string | number)[] {
  return [
    ...(client === undefined ? [] : ['c', client]),
    ...(user === undefined ? [] : ['u', JSON.stringify(user)]),
    ...(data === undefined ? [] : ['d', data]),
    ...(askAt === undefined ? [] : ['f', askAt]),
  ];
}
