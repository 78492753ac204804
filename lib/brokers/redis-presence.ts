import type { PresenceChange, PresenceEntry } from '../hub/ports/broker.js';
import type { PresenceAnswer, PresenceMember } from '../protocol/frames.js';
import type { RedisCommands } from './redis-commands.js';
import { RedisDue } from './redis-due.js';
import type { RedisKeys } from './redis-keys.js';
import { JOIN, LEAVE } from './redis-presence-scripts.js';
import { sharded, type RedisScript } from './redis-script.js';

/** Departures that one sweep applies. */
const DEPARTURES_PER_SWEEP = 1_000;
/** How long a sweep may take to apply what it took. */
const TAKEN_MS = 10_000;
/** Connections that one call removes. */
const CONNECTIONS_PER_CALL = 500;

/** The mark of a presence change among the messages on a channel's name. */
export const PRESENCE_MARK = 'p'.charCodeAt(0);

/** Which connections a leave is about: see the script. */
type Whose = 'any' | 'due' | `of ${string}`;

/** The members of channels in Redis. Every step may be repeated. */
export class RedisPresence {
  private readonly join_: RedisScript;
  private readonly leave_: RedisScript;
  private readonly departures: RedisDue;

  constructor(
    private readonly commands: RedisCommands,
    private readonly keys: RedisKeys,
    isSharded: boolean,
  ) {
    this.join_ = isSharded ? sharded(JOIN) : JOIN;
    this.departures = new RedisDue(commands, keys.departures);
    this.leave_ = isSharded ? sharded(LEAVE) : LEAVE;
  }

  /** Adds a connection of a node, or renews it. */
  async join(channel: string, { connection, member, info }: PresenceEntry, node: string): Promise<void> {
    // What JSON cannot hold is null.
    const json = (JSON.stringify(info) as string | undefined) ?? 'null';
    const args = [this.keys.meta(channel), connection, member, json, node];
    await this.commands.run(this.join_, [this.keys.presence(channel)], args, {
      effect: 'repeat',
      order: channel,
      bytes: json.length,
    });
  }

  /** Removes a connection, at once or after a time, even if this node dies meanwhile. */
  async leave(channel: string, connection: string, graceMs: number): Promise<void> {
    await this.schedule(channel, await this.remove(channel, 'any', graceMs, [connection]), [connection]);
  }

  /**
   * Removes the connections that a node still has, at once. One whose departure was under way keeps it: the node may
   * have ended between the two steps of it.
   */
  async leaveAll(channel: string, connections: readonly string[], node: string): Promise<void> {
    for (let i = 0; i < connections.length; i += CONNECTIONS_PER_CALL) {
      const some = connections.slice(i, i + CONNECTIONS_PER_CALL);
      await this.schedule(channel, await this.remove(channel, `of ${node}`, 0, some), some);
    }
  }

  /** The members of a channel. */
  async answer(channel: string): Promise<PresenceAnswer> {
    const key = this.keys.presence(channel);
    const fields = await this.commands.call(({ redis }) => redis.hgetall(key), { effect: 'read', order: channel });
    const users: PresenceMember[] = [];
    for (const [field, value] of Object.entries(fields)) {
      if (!field.startsWith('m:')) continue;
      const [places, departing] = value.split(' ', 2) as [string, string];
      const info = JSON.parse(value.slice(places.length + departing.length + 2)) as unknown;
      users.push({ id: field.slice(2), info, connections: Number(places) - Number(departing) });
    }
    return { rev: Number(fields.v ?? 0), count: users.length, users };
  }

  /** Applies departures that are due: one change per channel. */
  async sweep(): Promise<void> {
    const { till, members } = await this.departures.take(DEPARTURES_PER_SWEEP, TAKEN_MS);
    const channels = new Map<string, string[]>();
    for (const departure of members) {
      const end = departure.indexOf('\n');
      const channel = departure.slice(end + 1);
      const connections = channels.get(channel);
      if (connections) connections.push(departure.slice(0, end));
      else channels.set(channel, [departure.slice(0, end)]);
    }
    await Promise.all([...channels].map(([channel, connections]) => this.remove(channel, 'due', 0, connections)));
    await this.departures.forget(till, members);
  }

  /** Has whichever node sweeps then look after departures. What has none by then is left alone. */
  private async schedule(channel: string, due: string, connections: readonly string[]): Promise<void> {
    if (due === '0') return;
    await Promise.all(connections.map((connection) => this.departures.addAt(due, `${connection}\n${channel}`)));
  }

  private async remove(
    channel: string,
    whose: Whose,
    graceMs: number,
    connections: readonly string[],
  ): Promise<string> {
    const args = [this.keys.meta(channel), whose, graceMs, ...connections];
    const options = { effect: 'repeat', order: channel } as const;
    return (await this.commands.run(this.leave_, [this.keys.presence(channel)], args, options)) as string;
  }
}

/** Reads a presence change from a message, which begins with its mark. */
export function decodePresence(message: Buffer): PresenceChange {
  return JSON.parse(message.toString('utf8', 1)) as PresenceChange;
}
