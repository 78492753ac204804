import type { ConnectionInfo, RegisteredConnection } from '../hub/ports/broker.js';
import { subjectsOf } from '../hub/ports/subjects.js';
import type { RedisCommands } from './redis-commands.js';
import type { RedisCounts } from './redis-counts.js';
import type { RedisKeys } from './redis-keys.js';
import { FIND, LIVE_NODES } from './redis-lease-scripts.js';

/** What Redis knows of a connection. */
export interface ConnectionRecord {
  readonly info: ConnectionInfo;
  /** The channels in whose members it is, or was about to be. */
  readonly members: readonly string[];
  /** The connection has ended: it is not listed any more. */
  readonly ended?: true;
  /** Its hooks have run, too; only its members are still to leave. */
  readonly over?: true;
}

interface Entry {
  readonly connection: RegisteredConnection;
  readonly partition: number;
  /** What it counts for, until it has ended. */
  subjects: readonly string[];
  over: boolean;
}

/**
 * This node's connections, as all nodes see them. Writes what changed in a turn at once. What could not be written is
 * written later; the last state counts.
 */
export class RedisRegistry {
  private entries = new Map<string, Entry>();
  /** The channels that each connection is a member of, registered or not. */
  private members = new Map<string, Set<string>>();
  private dirty = new Set<string>();
  private flushing: Promise<void> | undefined;

  constructor(
    private readonly commands: RedisCommands,
    private readonly keys: RedisKeys,
    private readonly counts: RedisCounts,
    private readonly leaseMs: number,
    private node: string,
  ) {}

  register(connection: RegisteredConnection): Promise<void> {
    // A user's connections share a partition: they are found without looking through all of a node's.
    const info = connection.info();
    const partition = this.keys.partitionOf(info.userId ?? connection.id);
    const subjects = subjectsOf(info);
    this.discount(this.entries.get(connection.id));
    this.counts.change(subjects, 1);
    this.entries.set(connection.id, { connection, partition, subjects, over: false });
    return this.mark(connection.id);
  }

  update({ id, over = false }: RegisteredConnection): Promise<void> {
    const entry = this.entries.get(id);
    if (entry === undefined || entry.over) return Promise.resolve();
    if (over) this.discount(entry);
    return this.mark(id);
  }

  unregister(id: string): Promise<void> {
    const entry = this.entries.get(id);
    if (entry === undefined) return Promise.resolve();
    entry.over = true;
    this.discount(entry);
    return this.mark(id);
  }

  /** Notes that a connection is about to become a member: if this node dies, whoever claims it knows. */
  entering(channel: string, id: string): Promise<void> {
    const channels = this.members.get(id);
    if (channels?.has(channel)) return Promise.resolve();
    if (channels) channels.add(channel);
    else this.members.set(id, new Set([channel]));
    return this.entries.has(id) ? this.mark(id) : Promise.resolve();
  }

  /** Notes that a connection left the members, or will without this node. */
  left(channel: string, id: string): void {
    const channels = this.members.get(id);
    if (!channels?.delete(channel)) return;
    if (channels.size === 0) this.members.delete(id);
    if (this.entries.has(id)) this.mark(id).catch(() => undefined);
  }

  /** The connections that are members, by channel. */
  membersByChannel(): Map<string, string[]> {
    const channels = new Map<string, string[]>();
    for (const [id, names] of this.members) {
      for (const name of names) {
        const connections = channels.get(name);
        if (connections) connections.push(id);
        else channels.set(name, [id]);
      }
    }
    return channels;
  }

  /** Writes what could not be written before. */
  async flush(): Promise<void> {
    if (this.dirty.size > 0) await this.writeSoon();
    await this.counts.write();
  }

  /** Writes everything again, and removes what should be gone: Redis may have lost either. */
  async restore(): Promise<void> {
    for (const id of this.entries.keys()) this.dirty.add(id);
    this.counts.restore();
    await this.flush();
    for (let partition = 0; partition < this.keys.partitions; partition++) {
      const key = this.keys.connections(partition, this.node);
      const options = { effect: 'repeat', order: key } as const;
      const ids = await this.commands.call(({ redis }) => redis.hkeys(key), options);
      const strays = ids.filter((id) => !this.entries.has(id));
      if (strays.length > 0) await this.commands.call(({ redis }) => redis.hdel(key, ...strays), options);
    }
  }

  /** Forgets everything: the node goes on under another name, without what it had. */
  reset(node: string): void {
    this.node = node;
    this.entries = new Map();
    this.members = new Map();
    this.dirty = new Set();
    this.counts.reset(node);
  }

  /** Removes everything of this node. */
  async clear(): Promise<void> {
    const partitions = new Set([...this.entries.values()].map(({ partition }) => partition));
    const discounted = this.counts.clear();
    this.reset(this.node);
    await Promise.all([
      discounted,
      ...[...partitions].map((partition) => {
        const key = this.keys.connections(partition, this.node);
        return this.commands.call(({ redis }) => redis.del(key), { effect: 'repeat', order: key });
      }),
    ]);
  }

  /** The connections of all nodes that live. */
  async find({ userId, channel }: { userId?: string; channel?: string }): Promise<ConnectionInfo[]> {
    const nodes = (await this.commands.run(LIVE_NODES, [this.keys.nodes], [this.leaseMs], {
      effect: 'read',
    })) as string[];
    const all = Array.from({ length: this.keys.partitions }, (_, partition) => partition);
    const partitions = userId === undefined ? all : [this.keys.partitionOf(userId)];
    const text = channel ?? userId;
    const needle = text === undefined ? '' : JSON.stringify(text);
    const answers = await Promise.all(
      nodes.flatMap((node) =>
        partitions.map((partition) =>
          this.commands.run(FIND, [this.keys.connections(partition, node)], [needle], { effect: 'read' }),
        ),
      ),
    );
    const found: ConnectionInfo[] = [];
    for (const text of (answers as string[][]).flat()) {
      const { info, ended } = parseRecord(text);
      if (ended || (userId !== undefined && info.userId !== userId)) continue;
      if (channel === undefined || info.channels.includes(channel)) found.push(info);
    }
    return found;
  }

  private discount(entry: Entry | undefined): void {
    if (entry === undefined) return;
    this.counts.change(entry.subjects, -1);
    entry.subjects = [];
  }

  private mark(id: string): Promise<void> {
    this.dirty.add(id);
    return this.writeSoon();
  }

  /** After this turn's code: 128 channels that a peer enters at once are one write. */
  private writeSoon(): Promise<void> {
    return (this.flushing ??= Promise.resolve().then(() => this.write()));
  }

  private async write(): Promise<void> {
    this.flushing = undefined;
    const ids = this.dirty;
    this.dirty = new Set();
    const hashes = new Map<string, { ids: string[]; set: string[]; remove: string[] }>();
    for (const id of ids) {
      const entry = this.entries.get(id);
      if (entry === undefined) continue;
      const key = this.keys.connections(entry.partition, this.node);
      let hash = hashes.get(key);
      if (hash === undefined) hashes.set(key, (hash = { ids: [], set: [], remove: [] }));
      hash.ids.push(id);
      if (entry.over && !this.members.has(id)) hash.remove.push(id);
      else hash.set.push(id, this.record(id, entry));
    }
    const records = [...hashes].map(([key, hash]) => this.writeHash(key, hash));
    const outcomes = await Promise.allSettled([...records, this.counts.write()]);
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed) throw failed.reason as Error;
  }

  private async writeHash(
    key: string,
    { ids, set, remove }: { ids: string[]; set: string[]; remove: string[] },
  ): Promise<void> {
    try {
      const bytes = set.reduce((sum, text) => sum + text.length, 0);
      const options = { effect: 'repeat', order: key, bytes } as const;
      await Promise.all([
        set.length > 0 && this.commands.call(({ redis }) => redis.hset(key, ...set), options),
        remove.length > 0 && this.commands.call(({ redis }) => redis.hdel(key, ...remove), options),
      ]);
      for (const id of remove) if (!this.dirty.has(id)) this.entries.delete(id);
    } catch (error) {
      for (const id of ids) if (this.entries.has(id)) this.dirty.add(id);
      throw error;
    }
  }

  private record(id: string, { connection, over }: Entry): string {
    const members = [...(this.members.get(id) ?? [])];
    const ended = over || connection.over;
    return JSON.stringify({
      info: connection.info(),
      members,
      ...(ended ? { ended } : {}),
      ...(over ? { over } : {}),
    } satisfies ConnectionRecord);
  }
}

/** Reads what {@link RedisRegistry} wrote. */
export function parseRecord(text: string): ConnectionRecord {
  return JSON.parse(text) as ConnectionRecord;
}
