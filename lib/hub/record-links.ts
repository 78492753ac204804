import { RealtimeException } from '../protocol/errors.js';
import type { ConnectedData, DisconnectData } from '../protocol/frames.js';
import type { Connection } from './connection.js';
import { GRACE_MS } from './expiry.js';
import type { Followed } from './following.js';
import type { Heartbeat } from './heartbeat.js';
import { mapBounded } from './map-bounded.js';
import { Parked } from './membership.js';
import { Poll, type PollContext } from './poll.js';
import type { Link } from './ports/link.js';
import type { InboxEntry, RecordStore, RecordView } from './ports/records.js';
import type { PollAnswer, PollRequest, PositionOf, ReadWish, StreamRequest } from './ports/transport.js';
import { AWAY, failure } from './record-ends.js';
import type { RecordConnection } from './record-connection.js';
import { GAP_MS, type RecordLink } from './record-link.js';
import type { Residents } from './residents.js';
import type { Revocations } from './revocations.js';
import { RENEW_MS, Stream } from './stream.js';
import type { Upstream } from './upstream.js';

/** Channels of a read that are authorised at once. */
const CONCURRENCY = 8;

/** What links take. */
export interface LinkParts extends PollContext {
  readonly store: RecordStore;
  readonly revocations: Revocations;
  readonly upstream: Upstream;
}

/** What links need to know of their node. */
export interface LinkHost {
  readonly accepting: boolean;
  readonly maxOutboxBytes: number;
  /** Once the hub is open. */
  readonly heartbeat: Pick<Heartbeat, 'add' | 'remove'> | undefined;
  now(): number;
  connectedData(connection: Connection): ConnectedData;
  /** Calls a function when the hub drains; the returned function forgets it. */
  onDrain(act: () => void): () => void;
}

/** The links of this node to peers whose connections outlive them, and to peers that only read. */
export class RecordLinks {
  constructor(
    private readonly host: LinkHost,
    private readonly parts: LinkParts,
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
    const followed = channels.map((channel, slot) => {
      return { channel, since: wish.positionOf(channel, slot), place: { slot } };
    });
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
    const { inbox, holdMs, positionOf } = request;
    const { nudges, view } = await this.#attach(connection, inbox, holdMs + GAP_MS);
    const poll = new Poll(connection.client, inbox, holdMs, this.parts);
    try {
      this.#link(connection, poll, view);
      request.onGone(() => poll.supersede());
      if (!this.host.accepting) poll.finish();
      await this.#tell(connection, poll, { entries: view.entries, positionOf, nudges });
      return await poll.answered;
    } finally {
      poll.supersede();
      this.#detach(connection, poll);
    }
  }

  /** A stream of a connection, which is to be given its link. */
  stream(connection: RecordConnection): Stream {
    const { turn, subscriptions } = this.parts;
    return new Stream(connection, {
      turn,
      subscriptions,
      maxOutboxBytes: this.host.maxOutboxBytes,
      begin: (stream, link, request) => this.#begin(connection, stream, link, request),
      ended: (stream) => {
        this.host.heartbeat?.remove(stream);
        this.#detach(connection, stream);
      },
    });
  }

  async #begin(connection: RecordConnection, stream: Stream, link: Link, request: StreamRequest): Promise<void> {
    const { inbox, positionOf } = request;
    const { nudges, view } = await this.#attach(connection, inbox, stream.dueMs);
    if (stream.over) {
      stream.number = view.link;
      this.#detach(connection, stream);
      throw new RealtimeException('gone');
    }
    this.#link(connection, stream, view);
    this.host.heartbeat?.add(stream);
    stream.lookedAt = this.host.now();
    stream.open(link, inbox);
    const positions = followedOf(connection, positionOf).map(({ channel, since }) => [channel, since!] as const);
    request.begin(this.host.connectedData(connection), new Map(positions));
    try {
      await this.#tell(connection, stream, { entries: view.entries, positionOf, nudges });
    } catch {
      stream.finish(); // without a broker: the peer comes back
    }
    if (!this.host.accepting) stream.finish();
  }

  /** Finds out what the record has for a link of this node. */
  async look(connection: RecordConnection): Promise<void> {
    const link = connection.current;
    connection.nudges++;
    try {
      const { number = 0, ack = 0, dueMs = 2 * GAP_MS } = link ?? {};
      const view = await this.parts.store.look(connection.id, number, ack, dueMs);
      if (link === undefined) {
        if (view?.record.over !== undefined) this.residents.retire(connection, view.record.over);
        else if (view?.link !== connection.newestLink) this.residents.unlink(connection);
        return;
      }
      if (view === undefined || view.record.over !== undefined) {
        link.finish(view?.record.over ?? AWAY);
        this.residents.retire(connection, view?.record.over ?? AWAY);
      } else if (view.link !== number) {
        link.supersede();
        this.residents.unlink(connection);
      } else {
        const { user } = connection;
        connection.refresh(view.record);
        if (connection.user !== user) this.residents.link(connection); // other credentials end at another time
        link.keep(new Set(connection.subscriptions.keys()));
        link.inbox(view.entries);
        await link.follow(followedOf(connection, () => undefined));
      }
    } catch {
      // The broker is away: the peer finds out with its next poll, a stream with its next look.
    }
  }

  /** Looks after the record of a stream, from time to time. Called once a second. */
  renew(connection: RecordConnection): void {
    const link = connection.current;
    const now = this.host.now();
    if (!(link instanceof Stream) || now - link.lookedAt < RENEW_MS) return;
    link.lookedAt = now;
    void this.look(connection);
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

  /** Attaches a link to the record; `#detach` has to follow. */
  async #attach(
    connection: RecordConnection,
    inbox: number,
    forMs: number,
  ): Promise<{ nudges: number; view: RecordView }> {
    this.parts.upstream.charge(connection, 1);
    this.requireValid(connection);
    connection.serving++;
    try {
      connection.save();
      await connection.outgoing.flushed();
      const { nudges } = connection;
      const view = await this.parts.store.attach(connection.id, inbox, forMs);
      return { nudges, view: this.#requireLive(connection, view) };
    } catch (error) {
      this.#served(connection);
      throw error;
    }
  }

  /** It is the link of its connection on this node, in place of the one before. */
  #link(connection: RecordConnection, link: RecordLink, { link: number }: RecordView): void {
    connection.current?.supersede();
    link.number = number;
    connection.newestLink = number;
    connection.current = link;
    this.residents.link(connection);
  }

  async #tell(
    connection: RecordConnection,
    link: RecordLink,
    has: { entries: readonly InboxEntry[]; positionOf: PositionOf; nudges: number },
  ): Promise<void> {
    this.requireValid(connection);
    link.inbox(has.entries);
    await link.follow(followedOf(connection, has.positionOf));
    if (connection.nudges !== has.nudges) void this.look(connection); // told before its link was known here
  }

  #detach(connection: RecordConnection, link: RecordLink): void {
    if (connection.current === link) connection.current = undefined;
    connection.outgoing.attempt('that its link is gone', () => {
      return this.parts.store.detach(connection.id, link.number, GAP_MS);
    });
    this.#served(connection);
  }

  #served(connection: RecordConnection): void {
    connection.serving--;
    connection.usedAt = this.host.now();
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
    followed.push({ channel, since: positionOf(channel, slot) ?? stored.start, place: membership });
  }
  return followed;
}
