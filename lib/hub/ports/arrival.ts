import type { IncomingMessage } from 'node:http';
import type { RealtimeException } from '../../protocol/errors.js';
import type { UserIdentity } from '../identity.js';
import type { Authenticator } from './authenticator.js';
import type { Clock } from './clock.js';
import type { Meter } from './meter.js';
import type { Tracing } from './tracing.js';
import type {
  AdmittedConnection,
  Established,
  EstablishWish,
  PollAnswer,
  ReadWish,
  Reception,
  ResumedConnection,
} from './transport.js';

/** How a peer arrived. */
export interface Arrival {
  /** Which endpoint: the key it was opened with. */
  readonly endpoint: string;
  /** The transport's name. */
  readonly transport: string;
  /** The request that opens the connection; held until the connection hooks have run. */
  readonly request: IncomingMessage;
  readonly ip: string;
  readonly query: Readonly<Record<string, string>>;
  /** The parameters of the endpoint's path. */
  readonly params: Readonly<Record<string, string>>;
  /** Who the peer is; `undefined` where it is anonymous or its token is awaited. */
  readonly user: UserIdentity | undefined;
  /** The token comes in the first frame: until then nothing else is served. */
  readonly awaitsToken: boolean;
  /** Its place, which is left when the connection ends. Without one it is not counted. */
  readonly place?: Place;
  /** Whether it is to outlive its links. */
  readonly recorded?: boolean;
}

/** A request of a connection that exists: how it arrived here. */
export type Return = Pick<Arrival, 'endpoint' | 'request' | 'ip' | 'query' | 'params'>;

/** Connections that outlive their links. */
export interface RecordOffice {
  /** Whether this node knows a pass, so that nobody has to be asked. */
  knows(pass: string): boolean;
  /** Gives an admitted connection a record, and runs its hooks. Its place is left: it is counted by its record. */
  establish(connection: AdmittedConnection, wish: EstablishWish): Promise<Established>;
  /** Reads channels for an admitted connection. */
  read(connection: AdmittedConnection, wish: ReadWish): Promise<PollAnswer>;
  /** Finds the connection of a pass. Rejects with `gone`. */
  resume(pass: string, arrived: Return): Promise<ResumedConnection>;
  /** Whether a token is the one that the connection came with last. */
  isKnownToken(connection: ResumedConnection, token: string): boolean;
  /** The peer brought other credentials than before. Rejects with `forbidden` for those of somebody else. */
  renew(connection: ResumedConnection, user: UserIdentity, token: string): void;
}

/** How many handshakes there may be per second; `Infinity`: any number. */
export interface HandshakeLimits {
  readonly handshakesPerAddress: number;
  readonly handshakesPerSecond: number;
}

/** A connection as it is counted, from its arrival to its end. */
export interface Place {
  readonly left: boolean;
}

/** The places of a node. */
export interface Places {
  /** Takes a place for a peer that arrives. Throws `too_many_connections`. */
  enter(ip: string): Place;
  /** Gives a place back. Idempotent. */
  leave(place: Place): void;
}

/** What a handshake asks of the hub. */
export interface Gate {
  /** Whether new connections are taken; else they are refused with `draining`. */
  readonly accepting: boolean;
  readonly auth: Authenticator;
  readonly settings: {
    readonly clock: Clock;
    readonly limits: HandshakeLimits;
    readonly tracing?: Tracing | undefined;
  };
  readonly places: Places;
  /** What is counted of handshakes. */
  readonly meter: Pick<Meter, 'refused' | 'handshake'>;
  /** Takes a one-time ticket. Rejects with `unauthenticated` for one that is none any more. */
  redeem(ticket: string): Promise<UserIdentity>;
  /** Makes the connection of a peer that arrived. */
  arrive(arrival: Arrival): AdmittedConnection;
  /**
   * Runs the application's connection guards, and counts the user's connections. Rejects with a `RealtimeException` to
   * refuse; the connection is then forgotten.
   */
  admit(connection: AdmittedConnection): Promise<void>;
  /** Connections that outlive their links. */
  readonly records: RecordOffice;
  /** Forgets a connection that will get no link; its place is left. */
  forget(connection: AdmittedConnection): void;
}

/** A request that asks for a connection; its path was matched. */
export interface Visit {
  readonly endpoint: string;
  /** The transport's name. */
  readonly transport: string;
  /** The path that was matched, with the names of its parameters. */
  readonly route: string;
  /** The path of the request. */
  readonly path: string;
  readonly request: IncomingMessage;
  readonly query: Readonly<Record<string, string>>;
  /** What was taken out of the query: see {@link Handshake.takeSecrets}. */
  readonly secrets: Readonly<Record<string, string>>;
  readonly params: Readonly<Record<string, string>>;
  /** Whether the token may come in the first frame of this wire. */
  readonly takesFrames: boolean;
  /** Whether a ticket may be offered. */
  readonly takesTickets: boolean;
  /** Whether it will be no connection: it takes no place. */
  readonly passing: boolean;
  /** Whether the connection is to outlive its links. */
  readonly recorded?: boolean;
}

/**
 * What stands between a request and a connection, the same for every wire. The router asks it about each request for
 * an endpoint.
 */
export interface Handshake {
  /** Takes credentials out of a request's URL, in place. Called before anything else that is done with the request. */
  takeSecrets(request: IncomingMessage): Readonly<Record<string, string>>;
  /** The CORS headers of a response to this request; `undefined` where its origin is refused. */
  cors(request: IncomingMessage): Readonly<Record<string, string>> | undefined;
  /** The subprotocol to select: `bearer` where it is offered, whatever came of the token. */
  subprotocol(request: IncomingMessage): 'bearer' | undefined;
  /** Resolves with the admitted connection; rejects with a `RealtimeException` to refuse, nothing is left behind then. */
  perform(visit: Visit): Promise<AdmittedConnection>;
  /** Receives a request of a transport that asks for the handshake itself. */
  receive(visit: Visit): Reception;
  /** What whoever comes to a node that goes away is refused with: when to come back, each at another time. */
  draining(): RealtimeException;
  /** Forgets an admitted connection that will get no link, or has lost it. Idempotent. */
  abandon(connection: AdmittedConnection): void;
}
