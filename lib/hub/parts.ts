import type { Application } from './application.js';
import { Census } from './census.js';
import type { ChannelContext } from './channel.js';
import type { Connection } from './connection.js';
import { Control } from './control.js';
import { Departures } from './departures.js';
import type { FrameLimit } from './frame-limit.js';
import type { Frames } from './frames.js';
import type { Hooks } from './hooks.js';
import { meteredSession } from './metered-session.js';
import type { BrokerSession } from './ports/broker.js';
import { Presence } from './presence.js';
import { Publisher } from './publisher.js';
import { ReadGate } from './read-gate.js';
import { Records, type RecordsHost } from './records.js';
import { Revocations } from './revocations.js';
import type { HubSettings } from './settings.js';
import { Subscriptions } from './subscriptions.js';
import { Tickets } from './tickets.js';
import type { Turn } from './turn.js';
import { Upstream } from './upstream.js';
import type { Users } from './users.js';

const READS_IN_FLIGHT = 64;

/** What a hub has besides, which needs no broker. */
export interface PartsHost extends RecordsHost {
  readonly settings: HubSettings;
  readonly application: Application;
  readonly turn: Turn;
  readonly connections: Map<string, Connection>;
  readonly users: Users;
  readonly hooks: Hooks;
  readonly frames: Frames;
  readonly limit: FrameLimit;
}

/** The parts of a hub that work with its session at the broker. */
export interface Parts {
  readonly session: BrokerSession;
  readonly publisher: Publisher;
  readonly presence: Presence;
  readonly subscriptions: Subscriptions;
  readonly revocations: Revocations;
  readonly control: Control;
  readonly tickets: Tickets;
  readonly departures: Departures;
  readonly places: Census;
  readonly records: Records;
}

/** Makes the parts, and joins them. */
export function makeParts(opened: BrokerSession, host: PartsHost): Parts {
  const { settings, application, turn, connections, users, hooks, frames, limit } = host;
  const { clock, log, graceMs, declarations, limits } = settings;
  const session = meteredSession(opened, turn.meter);
  const reads = new ReadGate(READS_IN_FLIGHT);
  const context: ChannelContext = { broker: session, clock, turn, reads, inlineBytes: limits.inlineBytes };
  const publisher = new Publisher(session, turn, clock);
  const presence: Presence = new Presence(
    session,
    clock,
    graceMs,
    (name) => subscriptions.channels.get(name),
    (error) => log.error('Presence could not be told to the broker', error),
    turn.meter,
  );
  const subscriptions = new Subscriptions(context, declarations, application, presence, limits.maxChannels, (hook) =>
    hooks.track(hook),
  );
  const revocations: Revocations = new Revocations(session, clock, connections, users, (some) => control.revoke(some));
  const control = new Control(publisher, connections, users, subscriptions, revocations, log);
  const tickets = new Tickets(session, clock);
  const departures = new Departures(session, subscriptions, application, hooks, clock, log);
  const places = new Census(limits, clock, settings.broker.shared ? session : undefined, session.records);
  const { maxFrameBytes } = limits;
  const store = session.records;
  const upstream = new Upstream({ store, frames, limit, application, clock, maxFrameBytes, meter: turn.meter });
  const records = new Records(
    host,
    { store, subscriptions, declarations, presence, revocations, departures, places },
    upstream,
  );
  control.records = records;
  return { session, publisher, presence, subscriptions, revocations, control, tickets, departures, places, records };
}
