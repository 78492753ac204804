import { isRealtimeException, RealtimeException, type ErrorBody } from '../protocol/errors.js';
import type { DisconnectData, SubscribeData } from '../protocol/frames.js';
import type { Application } from './application.js';
import type { Connection, ConnectionHost } from './connection.js';
import type { ChannelDefinition, Declarations } from './definition.js';
import type { Departures } from './departures.js';
import type { Frames } from './frames.js';
import { sameAuthority } from './grants.js';
import type { Hooks } from './hooks.js';
import type { UserIdentity } from './identity.js';
import type { Log } from './log.js';
import { mapBounded } from './map-bounded.js';
import { digest, makePass, readPass, sameDigest } from './pass.js';
import type { Arrival, Place, Places, RecordOffice, Return } from './ports/arrival.js';
import type { Clock } from './ports/clock.js';
import type { ConnectionInfo } from './ports/broker.js';
import type { ConnectionRecord, RecordStore } from './ports/records.js';
import { subjectsOf } from './ports/subjects.js';
import type {
  AdmittedConnection,
  Established,
  EstablishWish,
  PollAnswer,
  ReadWish,
  SendAnswer,
} from './ports/transport.js';
import type { Presence } from './presence.js';
import { identityOf, RecordConnection, type RecordHost } from './record-connection.js';
import { failure, RecordEnds } from './record-ends.js';
import { GAP_MS } from './record-link.js';
import { gone, RecordLinks, type LinkHost } from './record-links.js';
import { Residents, type Residence } from './residents.js';
import type { Revocations } from './revocations.js';
import type { Subscriptions } from './subscriptions.js';
import type { Turn } from './turn.js';
import type { Upstream } from './upstream.js';

/** Channels of a new connection that are authorised at once. */
const CONCURRENCY = 8;
/** How late a peer may be told to come back: long before its connection ends for want of a link, ms. */
const MAX_RETURN_MS = GAP_MS / 4;
/** How long the object of a connection is kept on a node that it does not come to, ms. */
const IDLE_MS = 60_000;

/** What records need of their hub. */
export interface RecordsHost extends ConnectionHost, Residence, LinkHost {
  readonly application: Application;
  readonly hooks: Hooks;
  readonly log: Log;
  readonly turn: Turn;
  readonly settings: { readonly clock: Clock; readonly limits: { readonly maxConnections: number } };
  /** Runs the connection hooks, and lets the connection be open. */
  openRecorded(connection: RecordConnection): Promise<void>;
  readonly frames: Pick<Frames, 'describe'>;
  /** Its credentials were replaced. */
  renewed(connection: Connection, user: UserIdentity): void;
}

/** The parts of the hub that records use. */
export interface RecordParts {
  readonly store: RecordStore;
  readonly subscriptions: Subscriptions;
  readonly declarations: Declarations;
  readonly presence: Presence;
  readonly revocations: Revocations;
  readonly departures: Departures;
  readonly places: Places;
}

/**
 * The connections that outlive their links, as far as this node has to do with them: makes them, finds them by their
 * passes, lets them wait, and ends those that do not come back.
 */
export class Records implements RecordOffice {
  readonly #residents: Residents;
  readonly #links: RecordLinks;
  readonly #ends: RecordEnds;
  /** Objects that are being made for connections that come to this node. */
  readonly #arriving = new Map<string, Promise<RecordConnection>>();
  readonly #passes = new WeakMap<RecordConnection, string>();
  readonly #recordHost: RecordHost;

  constructor(
    private readonly host: RecordsHost,
    private readonly parts: RecordParts,
    private readonly upstream: Upstream,
  ) {
    const { store, declarations, subscriptions, revocations } = parts;
    const { turn, log, hooks, settings } = host;
    const { clock } = settings;
    this.#residents = new Residents(host);
    this.#links = new RecordLinks(host, { clock, turn, subscriptions, store, revocations, upstream }, this.#residents);
    const { meter } = turn;
    const ends = { ...parts, hooks, log, clock, meter };
    this.#ends = new RecordEnds(ends, this.#residents, (record) => this.#standIn(record));
    const definitionOf = (channel: string): ChannelDefinition | undefined => declarations.match(channel)?.definition;
    this.#recordHost = {
      ...delegate(host),
      store,
      definitionOf,
      poll: (connection, request) => this.#links.poll(connection, request),
      stream: (connection) => this.#links.stream(connection),
      acknowledge: (connection, inbox) => this.#acknowledge(connection, inbox),
      send: (connection, seq, frames) => this.#send(connection, seq, frames),
      end: (connection, data) => this.#ends.end(connection, data),
    };
  }

  /** A connection that arrives, and is to have a record. */
  arrive(arrival: Arrival): RecordConnection {
    this.#requireRoom();
    const { id, secretHash, pass } = makePass();
    const connection = new RecordConnection(id, arrival, secretHash, this.#recordHost);
    this.#passes.set(connection, pass);
    return connection;
  }

  knows(pass: string): boolean {
    const read = readPass(pass);
    const local = read === undefined ? undefined : this.#residents.get(read.id);
    return local?.over === false && sameDigest(local.secretHash, read!.secretHash);
  }

  async establish(admitted: AdmittedConnection, { client, channels }: EstablishWish): Promise<Established> {
    const connection = admitted as RecordConnection;
    const { store, places } = this.parts;
    const { responseHeaders } = connection;
    if (client !== undefined) connection.introduce(client);
    this.#residents.add(connection);
    connection.enter('opening');
    let created = false;
    try {
      await connection.outgoing.step(() => store.create(newRecord(connection), GAP_MS));
      created = true;
      leave(places, connection.place);
      await this.host.openRecorded(connection);
      const answers = await this.#subscribe(connection, channels);
      if (connection.over) throw new RealtimeException('gone');
      this.#residents.link(connection);
      connection.save();
      await connection.outgoing.flushed();
      const pass = this.#passes.get(connection)!;
      return { pass, connection, connected: connection.connectedData(), channels: answers, responseHeaders };
    } catch (error) {
      const { code } = this.host.frames.describe(error);
      if (!created) {
        this.host.turn.meter.refused.add(code);
        this.#residents.retire(connection, failure(code));
      } else if (!connection.over) this.#ends.end(connection, failure(code));
      throw error;
    }
  }

  read(admitted: AdmittedConnection, wish: ReadWish): Promise<PollAnswer> {
    return this.#links.read(admitted as Connection, wish);
  }

  async resume(pass: string, arrived: Return): Promise<RecordConnection> {
    const read = readPass(pass);
    if (read === undefined) throw new RealtimeException('gone');
    const local = this.#residents.get(read.id) ?? (await this.#find(read.id, read.secretHash, arrived));
    if (!sameDigest(local.secretHash, read.secretHash) || local.over || local.endpoint !== arrived.endpoint) {
      throw new RealtimeException('gone');
    }
    local.usedAt = this.host.now();
    return local;
  }

  isKnownToken(connection: RecordConnection, token: string): boolean {
    return connection.tokenHash === digest(token);
  }

  renew(connection: RecordConnection, user: UserIdentity, token: string): void {
    const before = connection.user;
    if (before === undefined || before.id !== user.id) {
      throw new RealtimeException('forbidden', 'The token belongs to another user than the connection');
    }
    connection.tokenHash = digest(token);
    if (before.expiresAt === user.expiresAt && sameAuthority(before, user)) return;
    this.host.renewed(connection, user);
  }

  /** The broker tells of a record that is linked here, or whose call runs here. */
  nudged(id: string, call: string | undefined): void {
    const connection = this.#residents.get(id);
    if (connection === undefined) return;
    if (call === undefined) void this.#links.look(connection);
    else for (const running of connection.calls) if (JSON.stringify(running.id) === call) running.cancel();
  }

  /** Looks after all records that are linked here: what the broker told of them may have been lost. */
  resumed(): void {
    for (const connection of this.#residents) if (connection.current !== undefined) void this.#links.look(connection);
  }

  /** Ends connections of a user, or one, wherever they are linked. */
  async endAll(to: { user: string } | { connection: string }, data: DisconnectData): Promise<void> {
    for (const id of await this.#idsOf(to)) {
      const local = this.#residents.get(id);
      if (local === undefined) await this.#ends.endRecord(id, data);
      else local.disconnect(data);
    }
  }

  /** Sends a frame to the connections that exist. */
  async tellAll(to: { user: string } | { connection: string }, text: string): Promise<void> {
    for (const id of await this.#idsOf(to)) {
      const outcome = await this.parts.store.push(id, [{ text }]);
      if (outcome === 'full') await this.endAll({ connection: id }, failure('slow_consumer'));
    }
  }

  /** Ends subscriptions of a channel. */
  async leaveAll(to: { user: string } | { connection: string }, channel: string, told: string): Promise<void> {
    for (const id of await this.#idsOf(to)) {
      const record = await this.parts.store.read(id);
      if (record?.over !== undefined || !record?.subscriptions.some((known) => known.channel === channel)) continue;
      const connection = this.#residents.get(id) ?? this.#standIn(record);
      this.parts.subscriptions.end(connection, channel, 'removed', true);
      await connection.outgoing.flushed();
      await this.parts.store.push(id, [{ text: told }]);
    }
  }

  /** Does what is due. Called once a second. */
  sweep(claims: boolean): void {
    const now = this.host.now();
    for (const connection of this.#residents) {
      if (isIdle(connection, now)) this.#residents.retire(connection);
      else {
        this.upstream.renew(connection);
        this.#links.renew(connection);
      }
    }
    if (claims) this.#ends.sweep(now);
  }

  /**
   * Ends all links, polls with an answer, so that their peers come to another node, streams spread over time; where records
   * do not outlive this node, their connections end.
   */
  drain(delayMs: () => number): void {
    const ends = !this.parts.store.lasting;
    for (const connection of this.#residents) {
      if (ends) {
        connection.fail('draining', delayMs());
        continue;
      }
      connection.current?.finish(undefined, Math.min(delayMs(), MAX_RETURN_MS));
      this.upstream.abandon(connection);
      connection.save();
      this.#residents.unlink(connection);
      this.host.hooks.track(connection.outgoing.flushed());
    }
  }

  /** The connections of all nodes. */
  async list(filter: { userId?: string; channel?: string }): Promise<ConnectionInfo[]> {
    return (await this.parts.store.list(filter)).map(({ record, node }) => infoOf(record, node));
  }

  #requireRoom(): void {
    if (this.#residents.size < this.host.settings.limits.maxConnections) return;
    throw new RealtimeException('too_many_connections', 'This node has too many connections');
  }

  /** Subscribes a new connection, as `$resume` does. */
  async #subscribe(
    connection: RecordConnection,
    channels: EstablishWish['channels'],
  ): Promise<Established['channels']> {
    const answers = Object.create(null) as Record<string, SubscribeData | { error: ErrorBody }>;
    const begins = await mapBounded([...channels], CONCURRENCY, async ([channel, since]) => {
      try {
        return await this.parts.subscriptions.prepare(connection, channel, since);
      } catch (error) {
        return this.host.frames.describe(error);
      }
    });
    [...channels.keys()].forEach((channel, i) => {
      const begin = begins[i]!;
      try {
        answers[channel] = typeof begin === 'function' ? begin() : { error: begin };
      } catch (error) {
        answers[channel] = { error: this.host.frames.describe(error) };
      }
    });
    return answers;
  }

  #find(id: string, secretHash: string, arrived: Return): Promise<RecordConnection> {
    const known = this.#arriving.get(id);
    if (known !== undefined) return known;
    const arriving = this.#make(id, secretHash, arrived).finally(() => this.#arriving.delete(id));
    this.#arriving.set(id, arriving);
    return arriving;
  }

  /** Makes the object of a connection that comes from another node. */
  async #make(id: string, secretHash: string, arrived: Return): Promise<RecordConnection> {
    const record = await this.parts.store.read(id);
    if (record === undefined || !sameDigest(record.origin.secretHash, secretHash)) throw new RealtimeException('gone');
    if (record.over !== undefined) throw gone(record.over);
    if (record.origin.endpoint !== arrived.endpoint) throw new RealtimeException('gone');
    this.#requireRoom();
    const connection = this.#object(record, arrived);
    this.#residents.add(connection);
    try {
      await this.host.application.resumed(connection);
    } catch (error) {
      const { code } = this.host.frames.describe(error);
      connection.disconnect(failure(code));
      throw error;
    }
    return connection;
  }

  #object(record: ConnectionRecord, arrived: Omit<Return, 'request'> & Partial<Return>): RecordConnection {
    const { origin, user } = record;
    const { transport, secretHash } = origin;
    const identity = user === undefined ? undefined : identityOf(user);
    const connection = new RecordConnection(
      origin.id,
      { ...arrived, transport, user: identity, awaitsToken: false },
      secretHash,
      this.#recordHost,
    );
    connection.refresh(record);
    connection.hooked = true;
    connection.entered = true;
    connection.enter('open');
    return connection;
  }

  /** The connection of a record that has no object here, for hooks. */
  #standIn(record: ConnectionRecord): RecordConnection {
    const { endpoint, ip, params } = record.origin;
    return this.#object(record, { endpoint, ip, params, query: {} });
  }

  async #send(connection: RecordConnection, seq: number, frames: readonly unknown[]): Promise<SendAnswer> {
    this.#links.requireValid(connection);
    connection.serving++;
    const running = this.upstream.send(connection, seq, frames);
    this.host.hooks.track(running.then(ignore, ignore));
    try {
      return await running;
    } catch (error) {
      if (isRealtimeException(error) && error.code === 'gone' && !connection.over) {
        this.#residents.retire(connection);
      }
      throw error;
    } finally {
      connection.serving--;
      connection.usedAt = this.host.now();
    }
  }

  async #acknowledge(connection: RecordConnection, inbox: number): Promise<void> {
    this.upstream.charge(connection, 1);
    await this.parts.store.acknowledge(connection.id, inbox);
    connection.usedAt = this.host.now();
  }

  async #idsOf(to: { user: string } | { connection: string }): Promise<readonly string[]> {
    return 'user' in to ? this.parts.store.ofUser(to.user) : [to.connection];
  }
}

function newRecord(connection: RecordConnection): ConnectionRecord {
  const { id, secretHash, endpoint, transport, ip, params, openedAt, user } = connection;
  const subjects = subjectsOf({ ip, userId: user?.id });
  const origin = { id, secretHash, endpoint, transport, ip, params, openedAt, subjects };
  return { origin, subscriptions: [], ...connection.state };
}

/** What a connection needs of its hub, as it is now. */
function delegate(host: ConnectionHost): ConnectionHost {
  const { turn, maxOutboxBytes, log } = host;
  return {
    turn,
    maxOutboxBytes,
    log,
    get node() {
      return host.node;
    },
    now: () => host.now(),
    attached: (connection) => host.attached(connection),
    received: (connection, text, bytes) => host.received(connection, text, bytes),
    opened: (connection) => host.opened(connection),
    prepare: (connection, channel, since) => host.prepare(connection, channel, since),
    connectedData: (connection) => host.connectedData(connection),
    closing: (connection) => host.closing(connection),
    closed: (connection) => host.closed(connection),
    subscribe: (connection, channel) => host.subscribe(connection, channel),
    unsubscribe: (connection, channel) => host.unsubscribe(connection, channel),
  };
}

/** Whether nothing of a connection is of use here any more. */
function isIdle({ serving, noted, usedAt, current }: RecordConnection, now: number): boolean {
  return serving === 0 && noted.size === 0 && current === undefined && now - usedAt >= IDLE_MS;
}

/** A record as `connections()` lists it. */
function infoOf({ origin, client, user, subscriptions }: ConnectionRecord, node: string): ConnectionInfo {
  const { id, transport, ip, endpoint, params, openedAt } = origin;
  const channels = subscriptions.map(({ channel }) => channel);
  const named = { ...(client === undefined ? {} : { client }), ...(user === undefined ? {} : { userId: user.id }) };
  return { id, node, transport, ip, endpoint, params, openedAt, channels, ...named };
}

function leave(places: Places, place: Place | undefined): void {
  if (place !== undefined) places.leave(place);
}

function ignore(): void {}
