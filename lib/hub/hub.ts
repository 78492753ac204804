import { randomUUID } from 'node:crypto';
import { CLOSE_GOING_AWAY, closeCodeOf, RealtimeException } from '../protocol/errors.js';
import type { ConnectedData, SubscribeData } from '../protocol/frames.js';
import type { Position } from '../protocol/position.js';
import type { Application } from './application.js';
import { Bindings } from './bindings.js';
import type { Channel } from './channel.js';
import { Connection, type ConnectionHost } from './connection.js';
import type { ChannelMatch } from './definition.js';
import { Drain, type DrainHost } from './drain.js';
import { Endpoint } from './endpoint.js';
import { EventLoop } from './event-loop.js';
import { Expiry } from './expiry.js';
import type { Control } from './control.js';
import { FrameLimit } from './frame-limit.js';
import { Frames, type FrameHost } from './frames.js';
import { sameAuthority } from './grants.js';
import { greetingOf } from './greeting.js';
import { Heartbeat } from './heartbeat.js';
import { readHistory, type History, type HistoryQuery } from './history.js';
import { Hooks } from './hooks.js';
import { healthOf, type HubHealth, type HubState } from './health.js';
import type { UserIdentity } from './identity.js';
import type { Log } from './log.js';
import type { Arrival, Gate, Places } from './ports/arrival.js';
import { identify, type Authenticator } from './ports/authenticator.js';
import type {
  AppendItem,
  BrokerListener,
  Claim,
  ConnectionInfo,
  Envelope,
  PresenceChange,
  StoredItem,
} from './ports/broker.js';
import { Meter } from './ports/meter.js';
import type { PayloadOffice } from './ports/payload.js';
import type { IssuedTicket, TicketOffice } from './ports/ticket.js';
import type { AdmittedConnection } from './ports/transport.js';
import { isReference } from './payload.js';
import { Openings, type OpeningHost } from './openings.js';
import { makeParts, type Parts, type PartsHost } from './parts.js';
import type { Presence } from './presence.js';
import { Reader, type ReaderEvents } from './reader.js';
import type { RecordConnection } from './record-connection.js';
import type { Records } from './records.js';
import type { Revocations } from './revocations.js';
import type { HubSettings } from './settings.js';
import { countEnd } from './stats.js';
import type { Subscriptions } from './subscriptions.js';
import type { Tickets } from './tickets.js';
import { Turn } from './turn.js';
import { Users } from './users.js';

const SWEEP_MS = 1000;

/** This node's heart: its connections, its channels, and the broker that joins it with the other nodes. */
export class Hub
  implements
    ConnectionHost,
    OpeningHost,
    FrameHost,
    Gate,
    TicketOffice,
    PayloadOffice,
    PartsHost,
    DrainHost,
    BrokerListener
{
  #node = randomUUID();
  readonly turn: Turn;
  readonly log: Log;
  readonly auth: Authenticator;
  readonly maxOutboxBytes: number;
  readonly connections = new Map<string, Connection>();
  readonly #endpoints = new Map<string, Endpoint>();
  readonly users = new Users();
  readonly meter = new Meter();
  readonly loop = new EventLoop();
  readonly #bindings: Bindings;
  readonly #waiting = new Set<Connection>();
  readonly hooks: Hooks;
  readonly #openings = new Openings(this);
  readonly expiry: Expiry;
  readonly #drain = new Drain(this);
  readonly limit: FrameLimit;
  readonly frames: Frames;
  #state: HubState = 'starting';
  #claims = false;
  #timers: (() => void)[] = [];
  heartbeat: Heartbeat | undefined;
  #parts: Parts | undefined;

  constructor(
    readonly settings: HubSettings,
    readonly application: Application,
  ) {
    this.log = settings.log;
    this.auth = settings.auth;
    this.turn = new Turn(settings.clock, this.meter, settings.tracing);
    this.#bindings = new Bindings(application, settings.clock);
    this.maxOutboxBytes = settings.limits.maxOutboxBytes;
    const { framesPerSecond, maxFramesInFlight } = settings.limits;
    this.limit = new FrameLimit(framesPerSecond, settings.clock, this.meter);
    this.frames = new Frames(this, this.limit, maxFramesInFlight, this.meter);
    this.expiry = new Expiry(settings.clock);
    this.hooks = new Hooks(this.connections, settings.clock, settings.log);
  }

  /** Opens the broker and starts the shared timers. Call once, before anything else. */
  async open(): Promise<void> {
    const { broker, clock, checkIntervalMs, heartbeat } = this.settings;
    this.#parts = makeParts(await broker.open(this.node, this), this);
    const { subscriptions, revocations } = this.#parts;
    this.heartbeat = new Heartbeat(clock, heartbeat.intervalMs, heartbeat.timeoutMs, this.meter);
    this.loop.start();
    this.#timers = [
      clock.every(SWEEP_MS, () => this.#sweep()),
      clock.every(checkIntervalMs, () => {
        subscriptions.check().catch(() => undefined);
        revocations.sweep();
      }),
    ];
  }

  /** This node's id; another one after the node was taken for dead. */
  get node(): string {
    return this.#node;
  }

  now(): number {
    return this.settings.clock.now();
  }

  /**
   * From now on peers are let in. `serves`: whether any can come. To a worker none do: it follows no control channel,
   * and does not run the hooks of dead nodes' connections, as it has no gateways that could. Rejects with
   * `broker_unavailable`.
   */
  async accept(serves = true): Promise<void> {
    if (serves) await this.#open.control.open();
    if (this.#state !== 'starting') return; // the hub began to drain meanwhile
    this.#state = 'open';
    this.#claims = serves;
  }

  get accepting(): boolean {
    return this.#state === 'open';
  }

  /** What this node can do now. Asks nobody. */
  get health(): HubHealth {
    const state = this.accepting && this.#drain.begun ? 'draining' : this.#state;
    return healthOf(state, this.#parts?.session, this);
  }

  get subscriptions(): Subscriptions {
    return this.#open.subscriptions;
  }

  get presence(): Presence {
    return this.#open.presence;
  }

  get tickets(): Tickets {
    return this.#open.tickets;
  }

  get revocations(): Revocations {
    return this.#open.revocations;
  }

  get places(): Places {
    return this.#open.places;
  }

  get records(): Records {
    return this.#open.records;
  }

  /** Messages to peers wherever they are. */
  get control(): Control {
    return this.#open.control;
  }

  /** The endpoint of a (port, path), the same for the same pair. */
  endpoint(path: string, port = 0): Endpoint {
    const wanted = new Endpoint(path, port);
    const known = this.#endpoints.get(wanted.key);
    if (known === undefined) this.#endpoints.set(wanted.key, wanted);
    return known ?? wanted;
  }

  endpoints(): Iterable<Endpoint> {
    return this.#endpoints.values();
  }

  // Publishing and reading, for the application.

  /** What was declared for a channel. Throws `invalid` or `unknown_channel`. */
  match(channel: unknown): ChannelMatch {
    return this.subscriptions.match(channel);
  }

  publish(match: ChannelMatch, item: AppendItem, timeoutMs?: number): Promise<Position> {
    if (this.#state === 'closed')
      return Promise.reject(new RealtimeException('broker_unavailable', 'The hub is closed'));
    if (isReference(item.data))
      return Promise.reject(new RealtimeException('invalid', 'Data that begins with the key "$payload" is reserved'));
    return this.#open.publisher.publishTo(match, item, timeoutMs);
  }

  history(match: ChannelMatch, query: HistoryQuery): Promise<History> {
    return readHistory(this.#open.session, match.channel, query);
  }

  /** The connections of all nodes, from the registry. */
  async registered(filter: { userId?: string; channel?: string }): Promise<ConnectionInfo[]> {
    const { session, records } = this.#open;
    return (await Promise.all([session.connections(filter), records.list(filter)])).flat();
  }

  // Peers arriving.

  redeem(ticket: string): Promise<UserIdentity> {
    return this.tickets.redeem(ticket);
  }

  async ticketFor(connection: AdmittedConnection): Promise<IssuedTicket> {
    const { user } = connection as Connection;
    if (user === undefined) throw new RealtimeException('unauthenticated');
    return this.tickets.issue(user);
  }

  async payloadFor(admitted: AdmittedConnection, channel: string, since: Position): Promise<StoredItem> {
    const connection = admitted as Connection;
    const match = this.subscriptions.matchFor(connection, channel);
    await this.subscriptions.authorise(connection, match);
    const { items } = await readHistory(this.#open.session, match.channel, { since, limit: 1, reverse: false });
    if (items[0] === undefined) throw new RealtimeException('position_lost');
    return items[0];
  }

  arrive(arrival: Arrival): Connection {
    if (arrival.recorded === true) return this.records.arrive(arrival);
    const connection = new Connection(randomUUID(), arrival, this);
    if (arrival.awaitsToken) this.#waiting.add(connection);
    return connection;
  }

  async admit(connection: AdmittedConnection): Promise<void> {
    const peer = connection as Connection;
    this.requireCurrent(peer.user);
    await this.application.admit(peer);
    // A guard may have said who it is, and what was true before may not be any more.
    if (peer.place !== undefined) await this.#open.places.identify(peer.place, peer.user?.id);
    this.requireCurrent(peer.user);
  }

  requireCurrent(user: UserIdentity | undefined): void {
    if (user?.expiresAt !== undefined && user.expiresAt <= this.now()) throw new RealtimeException('token_expired');
    if (user !== undefined && this.#open.revocations.holds(user)) throw new RealtimeException('revoked');
  }

  forget(connection: AdmittedConnection): void {
    this.#waiting.delete(connection as Connection);
    (connection as Connection).ended(CLOSE_GOING_AWAY, '');
  }

  attached(connection: Connection): void {
    this.connections.set(connection.id, connection);
    this.heartbeat?.add(connection);
    if (!this.accepting) {
      connection.fail('draining'); // the hub began to drain as the handshake ended
      return;
    }
    if (this.#waiting.has(connection)) {
      connection.enter('waiting');
      return;
    }
    this.#openings.start(connection, Promise.resolve());
  }

  async authenticate(token: string): Promise<UserIdentity> {
    if (this.auth.anonymous) throw new RealtimeException('unauthenticated', 'No tokens are taken here');
    const user = await identify(this.auth, { token, source: 'frame' });
    this.requireCurrent(user);
    return user;
  }

  authenticated(connection: Connection, user: UserIdentity): void {
    this.#waiting.delete(connection);
    connection.identify(user);
    this.#openings.start(connection, this.admit(connection));
  }

  renewed(connection: Connection, user: UserIdentity): void {
    const before = connection.user;
    connection.identify(user);
    this.expiry.watch(connection);
    if (before === undefined || !sameAuthority(before, user)) this.subscriptions.reauthorise(connection);
  }

  opened(connection: Connection): Promise<void> {
    return this.hooks.opened(connection);
  }

  openRecorded(connection: RecordConnection): Promise<void> {
    return this.#openings.open(connection, Promise.resolve());
  }

  expect(connection: Connection): Promise<void> {
    return this.#open.departures.expect(connection);
  }

  endpointOf({ endpoint }: Connection): Endpoint | undefined {
    return this.#endpoints.get(endpoint);
  }

  received(connection: Connection, text: string | undefined, bytes: number): void {
    this.frames.receive(connection, text, bytes);
  }

  connectedData(connection: Connection): ConnectedData {
    return greetingOf(connection, this.settings);
  }

  async subscribe(connection: Connection, channel: string): Promise<Position> {
    return this.subscriptions.inOrder(connection, channel, async () => {
      const begin = await this.subscriptions.prepare(connection, channel, undefined, true);
      return begin().position;
    });
  }

  async unsubscribe(connection: Connection, channel: string): Promise<void> {
    await this.subscriptions.inOrder(connection, channel, async () => {
      const reason = 'The application ended the subscription';
      this.subscriptions.remove(connection, channel, { code: 'rejected', reason, resubscribe: false });
      return Promise.resolve();
    });
  }

  async prepare(connection: Connection, channel: string, since: Position | undefined): Promise<() => SubscribeData> {
    const begin = await this.subscriptions.prepare(connection, channel, since);
    return () => {
      const answer = begin();
      this.settings.clock.turn(() => connection.subscriptions.get(channel)?.advance());
      return answer;
    };
  }

  closing(connection: Connection): void {
    this.frames.drop(connection);
    this.#waiting.delete(connection);
    this.heartbeat?.remove(connection);
    this.expiry.forget(connection);
    this.#endpoints.get(connection.endpoint)?.clients.delete(connection);
    const { code } = connection.closed ?? {};
    const atOnce = code === closeCodeOf('forbidden') || code === closeCodeOf('revoked');
    if (connection.recorded) return;
    for (const channel of [...connection.subscriptions.keys()]) {
      this.subscriptions.end(connection, channel, 'disconnected', atOnce);
    }
  }

  closed(connection: Connection): void {
    this.connections.delete(connection.id);
    // What its handshake refused is counted there, and what has a record by whoever ends that.
    if (connection.link !== undefined && !connection.recorded) countEnd(this.meter, connection, this.now());
    this.#bindings.forget(connection);
    this.users.delete(connection);
    if (connection.place !== undefined) this.places.leave(connection.place);
    if (connection.recorded) this.hooks.changed();
    else this.#open.departures.left(connection);
  }

  /** The application bound handlers for a connection, or used them. */
  touch(connection: Connection): void {
    this.#bindings.touch(connection);
  }

  // The process reading for itself.

  /** Subscribes this process to a channel; the returned function ends it. */
  read(channel: string, since: Position | undefined, events: ReaderEvents): () => void {
    const reader = new Reader(this.subscriptions, events);
    const forget = this.onDrain(() => reader.end());
    void reader.start(channel, since);
    return () => {
      forget();
      reader.stop();
    };
  }

  /** Calls a function when the hub lets nobody in any more, at once if so; the returned function forgets it. */
  onDrain(act: () => void): () => void {
    return this.#drain.on(act);
  }

  // What the broker tells.

  onEnvelope(channel: string, envelope: Envelope): void {
    this.#channel(channel)?.announce(envelope);
  }

  onPresence(channel: string, change: PresenceChange): void {
    this.#parts?.presence.changed(channel, change);
  }

  onResumed(): void {
    for (const channel of this.#parts?.subscriptions.channels.values() ?? []) channel.check();
    this.#parts?.revocations.reload();
    this.#parts?.records.resumed();
  }

  onClaim({ connection: info }: Claim): Promise<void> {
    if (!this.accepting) return Promise.reject(new RealtimeException('draining'));
    return this.#open.departures.claimed(Connection.departed(info, this));
  }

  onFenced(): string {
    this.#node = randomUUID();
    for (const connection of this.connections.values()) {
      if (connection.recorded) continue; // its record is not this node's alone
      connection.fenced = true;
      connection.fail('lease_lost');
    }
    return this.#node;
  }

  onNudge(record: string, call?: string): void {
    this.#parts?.records.nudged(record, call);
  }

  onHold(hold: boolean): void {
    this.frames.hold(hold);
  }

  // The end.

  /**
   * Is not ready from now on, and takes peers for `drain.readinessMs` more. Then takes none, ends the readers, tells every
   * peer to come back elsewhere within `drain.windowMs`, and waits for the disconnection hooks, at most
   * `drain.timeoutMs`. Idempotent.
   */
  drain(): Promise<void> {
    return this.#drain.run();
  }

  refuse(): boolean {
    if (this.#state !== 'closed') this.#state = 'draining';
    return this.#state !== 'closed';
  }

  recorded(): Records | undefined {
    return this.#parts?.records;
  }

  /** Leaves the broker and stops the timers. Idempotent. */
  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    for (const stop of this.#timers) stop();
    this.loop.stop();
    this.heartbeat?.stop();
    this.#parts?.revocations.close();
    await this.#parts?.session.close();
  }

  get #open(): Parts {
    if (this.#parts === undefined) throw new RealtimeException('broker_unavailable', 'The hub is not open yet');
    return this.#parts;
  }

  #channel(name: string): Channel | undefined {
    return this.#parts?.subscriptions.channels.get(name);
  }

  #sweep(): void {
    const { session, subscriptions } = this.#open;
    subscriptions.sweep();
    this.expiry.sweep();
    this.loop.sweep();
    for (const connection of this.#waiting) {
      if (this.now() - connection.openedAt >= this.settings.limits.unauthenticatedMs)
        connection.fail('unauthenticated');
    }
    this.#bindings.sweep();
    this.#open.records.sweep(this.accepting && this.#claims);
    // The registry and the sweep try again by themselves where the broker is away.
    session.sweep(this.accepting && this.#claims).catch(() => undefined);
  }
}
