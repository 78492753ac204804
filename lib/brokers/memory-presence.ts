import type { PresenceChange, PresenceEntry } from '../hub/ports/broker.js';
import type { Clock } from '../hub/ports/clock.js';
import type { PresenceAnswer } from '../protocol/frames.js';
import { Deadlines } from '../hub/deadlines.js';
import type { Scheduled } from '../hub/deadlines.js';

/** A member: all connections of one user in a channel. */
interface Member {
  readonly id: string;
  /** What the latest join told. */
  info: unknown;
  places: number;
  departing: number;
}

/** A connection's place in a channel; `dueAt` is its departure. */
interface Place extends Scheduled {
  readonly connection: string;
  readonly member: Member;
  readonly members: Members;
  /** The session whose end takes the place away. None once the connection has left: then only its time does. */
  owner: object | undefined;
}

/** The members of one channel, and what changed since the last announcement. */
class Members {
  readonly byId = new Map<string, Member>();
  readonly places = new Map<string, Place>();
  readonly joined = new Map<string, unknown>();
  readonly left = new Set<string>();

  constructor(
    readonly channel: string,
    public rev: number,
  ) {}

  /** The member, with this information (JSON text) from now on. */
  admit(id: string, info: string): Member {
    let member = this.byId.get(id);
    if (!member) {
      member = { id, info: undefined, places: 0, departing: 0 };
      this.byId.set(id, member);
    } else if (JSON.stringify(member.info) === info) {
      return member;
    }
    member.info = JSON.parse(info) as unknown;
    this.joined.set(id, member.info);
    return member;
  }

  remove(place: Place): void {
    const { member } = place;
    this.places.delete(place.connection);
    member.places -= 1;
    if (member.places > 0) return;
    this.byId.delete(member.id);
    this.left.add(member.id);
  }
}

/**
 * Who is in which channel. The devices of a user are one member. A revision is never given to two different states of
 * a channel, even though a channel that nobody is in is forgotten.
 */
export class MemoryPresence {
  private readonly channels = new Map<string, Members>();
  private readonly departures = new Deadlines<Place>();
  /** The highest revision of the forgotten channels: what an unknown channel answers, and where it starts. */
  private forgottenRev = 0;

  constructor(
    private readonly clock: Clock,
    private readonly announce: (channel: string, change: PresenceChange) => void,
  ) {}

  /** Adds a connection, or renews it: its departure is cancelled, its member and session are those told now. */
  join(channel: string, entry: PresenceEntry, owner: object): void {
    // A copy, as any broker hands out: the application may change its object later. What JSON cannot hold is null.
    const info = (JSON.stringify(entry.info) as string | undefined) ?? 'null';
    let members = this.channels.get(channel);
    if (!members) {
      members = new Members(channel, this.forgottenRev);
      this.channels.set(channel, members);
    }
    const member = members.admit(entry.member, info);
    const place = members.places.get(entry.connection);
    if (place) this.cancelDeparture(place);
    if (place?.member === member) {
      place.owner = owner;
    } else {
      member.places += 1;
      if (place) members.remove(place);
      const { connection } = entry;
      members.places.set(connection, { connection, member, members, owner, dueAt: undefined });
    }
    this.commit(members);
  }

  /** Removes a connection after a time, or earlier if it was to leave earlier. Unknown connections have left. */
  leave(channel: string, connection: string, graceMs: number): void {
    const members = this.channels.get(channel);
    const place = members?.places.get(connection);
    if (!members || !place) return;
    if (graceMs > 0) {
      const dueAt = this.clock.now() + graceMs;
      if (place.dueAt === undefined) place.member.departing += 1;
      else if (place.dueAt <= dueAt) return;
      this.departures.set(place, dueAt);
      place.owner = undefined;
    } else {
      this.cancelDeparture(place);
      members.remove(place);
      this.commit(members);
    }
  }

  /** The members. A member whose connections are all within their grace has 0 connections. */
  answer(channel: string): PresenceAnswer {
    const members = this.channels.get(channel);
    if (!members) return { rev: this.forgottenRev, count: 0, users: [] };
    const users = Array.from(members.byId.values(), ({ id, info, places, departing }) => {
      return { id, info, connections: places - departing };
    });
    return { rev: members.rev, count: users.length, users };
  }

  /** Applies the departures that are due: one change per channel. */
  sweep(): void {
    const changed = new Set<Members>();
    for (const place of this.departures.takeDue(this.clock.now())) {
      place.member.departing -= 1;
      place.members.remove(place);
      changed.add(place.members);
    }
    for (const members of changed) this.commit(members);
  }

  /** Removes the connections of a session that have not left: one change per channel. */
  removeOwner(owner: object): void {
    for (const members of this.channels.values()) {
      for (const place of members.places.values()) {
        if (place.owner === owner) members.remove(place);
      }
      this.commit(members);
    }
  }

  private cancelDeparture(place: Place): void {
    if (place.dueAt === undefined) return;
    this.departures.delete(place);
    place.member.departing -= 1;
  }

  private commit(members: Members): void {
    if (members.joined.size + members.left.size === 0) return;
    members.rev += 1;
    const change: PresenceChange = {
      rev: members.rev,
      count: members.byId.size,
      joined: Array.from(members.joined, ([id, info]) => ({ id, info })),
      left: [...members.left],
    };
    members.joined.clear();
    members.left.clear();
    if (members.places.size === 0) {
      this.channels.delete(members.channel);
      this.forgottenRev = Math.max(this.forgottenRev, members.rev);
    }
    this.announce(members.channel, change);
  }
}
