import { closeCodeOf, type ErrorCode } from '../protocol/errors.js';
import type { DisconnectData } from '../protocol/frames.js';
import type { Declarations } from './definition.js';
import type { Departures } from './departures.js';
import type { Hooks } from './hooks.js';
import type { Log } from './log.js';
import type { Clock } from './ports/clock.js';
import type { Meter } from './ports/meter.js';
import type { ConnectionRecord, EndedRecord, RecordStore } from './ports/records.js';
import type { Presence } from './presence.js';
import type { RecordConnection } from './record-connection.js';
import type { RecordLink } from './record-link.js';
import type { Residents } from './residents.js';
import { countEnd } from './stats.js';

/** How long whoever ends a connection may take for its last hooks, ms. */
const CLAIM_MS = 60_000;
/** How often connections whose time is over are looked for, ms, and how many are taken at once. */
const CLAIM_EVERY_MS = 5_000;
const CLAIMS = 256;

/** How a connection ends whose peer did not come back. */
export const AWAY: DisconnectData = failure('heartbeat_timeout');

/** How a connection ends by an error. */
export function failure(code: ErrorCode): DisconnectData {
  const close = closeCodeOf(code);
  return { code: close, reason: code, reconnect: close >= 4500 };
}

/** What ends take. */
export interface EndParts {
  readonly store: RecordStore;
  readonly declarations: Declarations;
  readonly presence: Presence;
  readonly departures: Departures;
  readonly hooks: Hooks;
  readonly log: Log;
  readonly clock: Clock;
  readonly meter: Meter;
}

/** The ends of connections with records: whichever node ends one runs its last hooks, once. */
export class RecordEnds {
  #claimedAt = 0;
  #claiming = false;

  constructor(
    private readonly parts: EndParts,
    private readonly residents: Residents,
    /** The connection of a record that has no object here. */
    private readonly standIn: (record: ConnectionRecord) => RecordConnection,
  ) {}

  /** Ends connections that did not come back in time. Called once a second. */
  sweep(now: number): void {
    if (this.#claiming || now - this.#claimedAt < CLAIM_EVERY_MS) return;
    this.#claimedAt = now;
    this.#claiming = true;
    this.#claim()
      .catch(() => undefined) // the broker is away: later
      .finally(() => (this.#claiming = false));
  }

  /** Ends a connection that has no object here. */
  async endRecord(id: string, data: DisconnectData): Promise<void> {
    const record = await this.parts.store.end(id, data, CLAIM_MS);
    this.#count(record, undefined);
    this.#track(this.finish(record, undefined));
  }

  /** Ends a connection on all nodes; its hooks run here, unless it has ended elsewhere. */
  end(connection: RecordConnection, data: DisconnectData): void {
    const { current: link } = connection;
    connection.current = undefined;
    this.residents.retire(connection, data);
    const ending = connection.outgoing
      .flushed()
      .then(() => link && this.#finish(link, connection.id, data))
      .then(() => this.parts.store.end(connection.id, data, CLAIM_MS))
      .then((record) => {
        this.#count(record, connection);
        return this.finish(record, connection);
      });
    this.#track(ending);
  }

  /** Ends the link of a connection, behind what was sent to its peer before the end. */
  async #finish(link: RecordLink, id: string, data: DisconnectData): Promise<void> {
    const { over, number, ack } = link;
    const view = over ? undefined : await this.parts.store.look(id, number, ack, CLAIM_MS).catch(() => undefined);
    if (view !== undefined) link.inbox(view.entries);
    link.finish(data);
  }

  /** What fails is claimed again, by this node or another. */
  #track(ending: Promise<void>): void {
    const logged = ending.catch((error: unknown) => {
      this.parts.log.error('A connection could not be ended, or its last hooks failed', error);
    });
    this.parts.hooks.track(logged);
  }

  /** Counts a connection that this node has ended: no other does. */
  #count(record: ConnectionRecord | undefined, own: RecordConnection | undefined): void {
    if (record === undefined) return;
    const { clock, meter } = this.parts;
    const { openedAt } = record.origin;
    const entered = own?.entered ?? true;
    countEnd(meter, { entered, endedByWire: false, closed: record.over!, openedAt }, clock.now());
  }

  /** Runs the last hooks of a connection that this node has ended or claimed. */
  async finish(record: ConnectionRecord | undefined, own: RecordConnection | undefined): Promise<void> {
    if (record === undefined) return;
    if (own !== undefined) await this.parts.hooks.openedInTime(own);
    const { id } = record.origin;
    const connection = own ?? this.standIn(record);
    const channels = record.subscriptions.map(({ channel }) => channel);
    const { code, reason } = record.over!;
    connection.depart({ code, reason }, channels);
    for (const channel of channels) {
      if (this.parts.declarations.match(channel)?.definition.presence) this.parts.presence.leave(channel, id, true);
    }
    if (connection.hooked) await this.parts.departures.claimed(connection);
    await this.parts.store.settle(id);
  }

  async #claim(): Promise<void> {
    for (;;) {
      const claimed = await this.parts.store.claim(CLAIMS, AWAY, CLAIM_MS);
      for (const ended of claimed) this.#finishClaimed(ended);
      if (claimed.length < CLAIMS) return;
    }
  }

  #finishClaimed({ record, attempt }: EndedRecord): void {
    const local = this.residents.get(record.origin.id);
    if (attempt === 1) this.#count(record, local);
    if (local !== undefined) this.residents.retire(local, record.over);
    this.#track(this.finish(record, local));
  }
}
