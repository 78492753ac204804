import { RealtimeException } from '../protocol/errors.js';
import type { DisconnectData } from '../protocol/frames.js';
import type { Connection } from './connection.js';
import { GRACE_MS } from './expiry.js';
import { mapBounded } from './map-bounded.js';
import { Parked } from './membership.js';
import { Poll, type Followed, type PollContext } from './poll.js';
import type { RecordStore, RecordView } from './ports/records.js';
import type { PollAnswer, PollRequest, PositionOf, ReadWish } from './ports/transport.js';
import { AWAY, failure } from './record-ends.js';
import type { RecordConnection } from './record-connection.js';
import type { Residents } from './residents.js';
import type { Revocations } from './revocations.js';
import type { Upstream } from './upstream.js';

/** How long a connection lasts without a link, ms. */
export const GAP_MS = 60_000;
/** Channels of a read that are authorised at once. */
const CONCURRENCY = 8;

/** What polls take. */
export interface PollParts extends PollContext {
  readonly store: RecordStore;
  readonly revocations: Revocations;
  readonly upstream: Upstream;
}

/** What polls need to know of their node. */
export interface PollHost {
  readonly accepting: boolean;
  now(): number;
  /** Calls a function when the hub drains; the returned function forgets it. */
  onDrain(act: () => void): () => void;
}

/** The polls of this node: of connections with records, and of peers that only read. */
export class RecordPolls {
  constructor(
    private readonly host: PollHost,
    private readonly parts: PollParts,
    private readonly residents: Residents,
  ) {}

  /** Reads channels once, for a peer without a record. */
  async read(connection: Connection, wish: ReadWish): Promise<PollAnswer> {
    const { channels } = wish;
    const { subscriptions } = this.parts;
    await mapBounded(channels, CONCURRENCY, async (channel) => {
      await subscriptions.authorise(connection, subscriptions.matchFor(connection, channel));
    });
    const poll = new Poll(undefined, 0, wish.holdMs, this.parts);
    const followed = channels.map((channel, slot) => ({ channel, slot, since: wish.positionOf(channel, slot) }));
    wish.onGone(() => poll.supersede());
    const forget = this.host.onDrain(() => poll.finish());
    try {
      await poll.follow(followed);
      // Where a channel begins live, its position is what the peer waits for.
      if (followed.some(({ since }) => since === undefined)) poll.finish();
      return await poll.answered;
    } finally {
      poll.supersede();
      forget();
    }
  }

  /** Waits for something to tell a peer. */
  async poll(connection: RecordConnection, request: PollRequest): Promise<PollAnswer> {
    const { inbox, holdMs } = request;
    this.parts.upstream.charge(connection, 1);
    this.requireValid(connection);
    connection.serving++;
    try {
      connection.save();
      await connection.outgoing.flushed();
      const { nudges } = connection;
      const view = await this.parts.store.attach(connection.id, inbox, holdMs + GAP_MS);
      const { link, entries } = this.#requireLive(connection, view);
      connection.current?.supersede();
      const poll = new Poll(connection.client, inbox, holdMs, this.parts);
      poll.link = link;
      connection.newestLink = link;
      connection.current = poll;
      this.residents.link(connection);
      request.onGone(() => poll.supersede());
      if (!this.host.accepting) poll.finish();
      try {
        this.requireValid(connection);
        poll.inbox(entries);
        await poll.follow(followedOf(connection, (channel, slot) => request.positionOf(channel, slot)));
        if (connection.nudges !== nudges) void this.look(connection); // told before its link was known here
        return await poll.answered;
      } finally {
        poll.supersede();
        if (connection.current === poll) connection.current = undefined;
        connection.outgoing.attempt('that its link is gone', () =>
          this.parts.store.detach(connection.id, link, GAP_MS),
        );
      }
    } finally {
      connection.serving--;
      connection.usedAt = this.host.now();
    }
  }

  /** Finds out what the record has for a poll that waits. */
  async look(connection: RecordConnection): Promise<void> {
    const poll = connection.current;
    connection.nudges++;
    try {
      const view = await this.parts.store.look(connection.id, poll?.link ?? 0, poll?.ack ?? 0, 2 * GAP_MS);
      if (poll === undefined) {
        if (view?.record.over !== undefined) this.residents.retire(connection, view.record.over);
        else if (view?.link !== connection.newestLink) this.residents.unlink(connection);
        return;
      }
      if (view === undefined || view.record.over !== undefined) {
        poll.finish(view?.record.over ?? AWAY);
        this.residents.retire(connection, view?.record.over ?? AWAY);
      } else if (view.link !== poll.link) {
        poll.supersede();
        this.residents.unlink(connection);
      } else {
        connection.refresh(view.record);
        poll.keep(new Set(connection.subscriptions.keys()));
        poll.inbox(view.entries);
        await poll.follow(followedOf(connection, () => undefined));
      }
    } catch {
      // The broker is away: the peer finds out with its next poll.
    }
  }

  /** A peer that was revoked, or whose credentials have ended, is told so, and its connection ends. */
  requireValid(connection: RecordConnection): void {
    const { user } = connection;
    if (user === undefined) return;
    const expired = user.expiresAt !== undefined && user.expiresAt + GRACE_MS <= this.host.now();
    const code = this.parts.revocations.holds(user) ? 'revoked' : expired ? 'token_expired' : undefined;
    if (code === undefined) return;
    connection.disconnect(failure(code));
    throw new RealtimeException(code);
  }

  #requireLive(connection: RecordConnection, view: RecordView | undefined): RecordView {
    if (view !== undefined && view.record.over === undefined) {
      connection.refresh(view.record);
      return view;
    }
    if (!connection.over) this.residents.retire(connection, view?.record.over);
    throw gone(view?.record.over);
  }
}

/** The connection is over; how it ended says whether to make a new one. */
export function gone(over: DisconnectData | undefined): RealtimeException {
  return over === undefined
    ? new RealtimeException('gone')
    : new RealtimeException('gone', undefined, { disconnect: over });
}

/** The channels of a connection, from where its peer is, else from where they began. */
function followedOf(connection: RecordConnection, positionOf: PositionOf): Followed[] {
  const followed: Followed[] = [];
  for (const membership of connection.subscriptions.values()) {
    if (!(membership instanceof Parked)) continue;
    const { channel, slot, stored } = membership;
    followed.push({ channel, slot, since: positionOf(channel, slot) ?? stored.start });
  }
  return followed;
}
