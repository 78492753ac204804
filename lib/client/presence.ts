import type { CodedException } from '../protocol/errors.js';
import type { PresenceAnswer, PresenceData } from '../protocol/frames.js';
import type { ClientClock } from './clock.js';

/** A member of a channel: a user with all devices merged, or an anonymous client. */
export interface Member {
  readonly id: string;
  /** What the hub's `@OnSubscribe` returned for the member. */
  readonly info: unknown;
}

/** What a channel with presence tells. */
export interface PresenceSignals {
  /** All members, at first and after each change. Not told while the list cannot be had: over SSE with `receiveOnly`. */
  presence: [members: readonly Member[]];
  /**
   * A member came. Not called for those that are there at first. Over SSE with `receiveOnly`, where nobody can be asked for, `join` and
   * `leave` tell each change that the hub lists: none above 200 members, and none that was missed with the link.
   */
  join: [member: Member];
  /** A member left; `info` is null where the member was never told. */
  leave: [member: Member];
}

/** What a view of the members needs, and where it tells changes. */
export interface PresenceHost {
  readonly clock: ClientClock;
  /** Asks the hub for all members; called with at most one question open. */
  ask(): Promise<PresenceAnswer>;
  tell<S extends keyof PresenceSignals>(signal: S, value: PresenceSignals[S][0]): void;
  onError(error: unknown): void;
}

const MIN_SPACING_MS = 250;
const MAX_SPACING_MS = 10_000;
/** A list of 1,000 members is asked for every 10 s at most. */
const SPACING_MS_PER_MEMBER = 10;

/** The members of one channel, kept by the changes that the hub tells, asked for again after a jump of the revision. */
export class PresenceView {
  readonly #host: PresenceHost;
  /** All members, or without a revision those that changes told of. */
  #members: ReadonlyMap<string, Member> = new Map();
  #rev: number | undefined;
  /** The hub cannot be asked over this link. */
  #refused = false;
  #active = false;
  #asking = false;
  #again = false;
  #cancelTimer: (() => void) | undefined;
  #askedAt = -Infinity;

  constructor(host: PresenceHost) {
    this.#host = host;
  }

  /** Starts to follow the members; asks for them unless they are followed already. */
  follow(live: boolean): void {
    if (this.#active) return;
    this.#active = true;
    if (live) this.refresh();
  }

  /** Asks again, after a reconnect or where a change was missed. Questions are merged and spaced. */
  refresh(): void {
    if (!this.#active || this.#refused) return;
    if (this.#asking) this.#again = true;
    else {
      const { clock } = this.#host;
      const spacing = this.#members.size * SPACING_MS_PER_MEMBER;
      const dueAt = this.#askedAt + Math.min(MAX_SPACING_MS, Math.max(MIN_SPACING_MS, spacing));
      if (dueAt <= clock.now()) this.#ask();
      else this.#cancelTimer ??= clock.after(dueAt - clock.now(), () => this.#ask());
    }
  }

  /** The link or the subscription is gone: nothing is asked until the next `refresh()`. */
  pause(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#again = this.#refused = false;
    this.#askedAt = -Infinity;
  }

  /** Forgets the members. */
  stop(): void {
    this.pause();
    this.#members = new Map();
    this.#rev = undefined;
  }

  /** Takes a change from the hub: it applies to the revision before it, and to no other. */
  change({ prev, rev, joined, left }: PresenceData): void {
    if (!this.#active || rev === this.#rev) return;
    const isNext = prev === this.#rev;
    if (!joined || !left || !(isNext || this.#refused)) {
      this.refresh();
      return;
    }
    const members = new Map(this.#members);
    for (const id of left) {
      if (!members.delete(id) && !isNext) this.#host.tell('leave', { id, info: null });
    }
    for (const { id, info } of joined) members.set(id, { id, info });
    this.#become(members, isNext ? rev : undefined, true);
  }

  /** Takes the whole list. */
  take(answer: PresenceAnswer): void {
    if (!this.#active) return;
    const members = new Map(answer.users.map(({ id, info }) => [id, { id, info }]));
    this.#become(members, answer.rev, this.#rev !== undefined);
  }

  #become(members: ReadonlyMap<string, Member>, rev: number | undefined, tellsJoins: boolean): void {
    const before = this.#members;
    this.#members = members;
    this.#rev = rev;
    for (const member of before.values()) if (!members.has(member.id)) this.#host.tell('leave', member);
    for (const member of members.values()) if (tellsJoins && !before.has(member.id)) this.#host.tell('join', member);
    if (rev !== undefined) this.#host.tell('presence', [...members.values()]);
  }

  #ask(): void {
    this.#cancelTimer = undefined;
    this.#asking = true;
    this.#askedAt = this.#host.clock.now();
    this.#host
      .ask()
      .then(
        (answer) => this.take(answer),
        (error: unknown) => {
          this.#refused = (error as CodedException).code === 'not_available';
          this.#host.onError(error);
        },
      )
      .finally(() => {
        this.#asking = false;
        if (this.#again) {
          this.#again = false;
          this.refresh();
        }
      });
  }
}
