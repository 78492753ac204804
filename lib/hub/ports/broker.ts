import type { Position } from '../../protocol/position.js';
import type { PresenceAnswer } from '../../protocol/frames.js';
import type { Revocation } from './revocation.js';
import type { RecordStore } from './records.js';

/**
 * What joins the nodes. A broker is a value made by a factory; each hub opens its own session on it. Two hubs that
 * open the same in-process broker are two nodes.
 *
 * A broker step (each call of a session) is atomic. Steps may be called concurrently; a session applies steps of one
 * channel in the order of the calls.
 */
export interface Broker {
  /** Names the implementation in logs and health. */
  readonly name: string;
  /** Whether nodes in other processes are joined. */
  readonly shared: boolean;
  /** Called once per hub, before anything else. Rejects if the broker can't be used as configured. */
  open(node: string, listener: BrokerListener): Promise<BrokerSession>;
}

/** What a session tells its hub. Called synchronously; must not throw. */
export interface BrokerListener {
  /**
   * An announcement of a subscribed channel. Announcements may be lost, late or repeated; they are never reordered
   * within one connection to the broker. May be called before `append` of the same node has settled.
   */
  onEnvelope(channel: string, envelope: Envelope): void;
  /** The members of a channel with local subscribers changed. Same guarantees as announcements; `rev` tells gaps. */
  onPresence(channel: string, change: PresenceChange): void;
  /**
   * Subscriptions are in force again after an interruption in which announcements may have been lost: every channel
   * has to be checked. Also called after a change of master.
   */
  onResumed(): void;
  /**
   * Another node died, and this one has its connection now: run the connection's disconnection hooks, then resolve.
   * Members have left already. Called at least once per connection of a dead node: once more where a claimer dies
   * before it resolved, or takes longer than two leases; a rejection has it claimed again.
   */
  onClaim(claim: Claim): Promise<void>;
  /**
   * This node was taken for dead, and others have its connections: end all of them with `lease_lost` and run no hooks
   * for them. Returns the node's new id, under which it goes on; what was registered under the old one is forgotten.
   */
  onFenced(): string;
  /**
   * From now on (`true`) peers' frames have to be held, as other nodes may be claiming their connections; or no longer
   * (`false`). Called only where the broker was told to fence, and when the process itself had stood still.
   */
  onHold(hold: boolean): void;
  /**
   * Something happened to a record that this node has the link of: look at it. With a call (the JSON text of a frame's
   * id): the peer cancels that call, which this node runs. May be lost, late or repeated.
   */
  onNudge(record: string, call?: string): void;
}

/** A connection of a dead node, in this node's hands. */
export interface Claim {
  /** As the dead node registered it. Its `id` is the stable key of its hooks, whoever runs them. */
  readonly connection: ConnectionInfo;
  /** 1, or more where claimers died before. */
  readonly attempt: number;
}

/** How much of a channel is kept. */
export interface Retention {
  /** Publications that can be recovered; the broker keeps `size + 1`. 0: no history. */
  readonly size: number;
  /** Time since the last publication after which the history goes, ms. */
  readonly ttlMs: number;
  /** Time without any use after which epoch and offset go, ms; at least twice `ttlMs`. */
  readonly metaTtlMs: number;
}

/** One publication to append; `data` is JSON text. */
export interface AppendItem {
  readonly event: string;
  readonly data: string;
  /** The client instance that does not get it. */
  readonly exclude?: string;
  /** The idempotency key, scoped already; unique per channel. */
  readonly key?: string;
}

/** The place of a publication, without its epoch. */
export interface Point {
  readonly offset: number;
  readonly tag: string;
}

/** One announcement: what one `append` added. `prev` is the top before it. */
export interface Envelope {
  readonly epoch: string;
  readonly prev: Point;
  /** Offset of the first item; the others follow without gap and have the same tag. */
  readonly first: number;
  readonly tag: string;
  readonly items: readonly { readonly event: string; readonly data: string; readonly exclude?: string }[];
  /** What the call was given as its note. It is not stored. */
  readonly note?: string;
}

export interface AppendResult {
  readonly epoch: string;
  readonly prev: Point;
  readonly tag: string;
  /** One per item, in order. `repeated`: the key was known, nothing was appended, the position is the first one's. */
  readonly results: readonly { readonly position: Position; readonly repeated: boolean }[];
}

/** A stored publication. */
export interface StoredItem extends Point {
  readonly event: string;
  readonly data: string;
  readonly exclude?: string;
}

/**
 * `ok` only if the position is valid: of the channel's epoch, and the top including its tag, or a stored entry
 * including its tag, or offset 0 while entry 1 is stored or the top is 0. Else why it is not: `epoch` is another
 * life of the log, `diverged` another tag at a known offset or an offset above the top, `trimmed` older than stored.
 */
export interface ReadResult {
  readonly status: 'ok' | 'trimmed' | 'diverged' | 'epoch';
  readonly top: Position;
  /** What follows the position, oldest first, at most `limit`; empty unless `ok`. */
  readonly items: readonly StoredItem[];
  /** Whether stored items follow the last of `items`. */
  readonly more: boolean;
}

/** A change of a channel's members. `rev` grows by one per change. */
export interface PresenceChange {
  readonly rev: number;
  readonly count: number;
  readonly joined: readonly { readonly id: string; readonly info: unknown }[];
  readonly left: readonly string[];
}

/** A connection's place in the members of a channel. */
export interface PresenceEntry {
  /** The connection's id: joins and leaves are idempotent by it. */
  readonly connection: string;
  /** The member: the identity's id, else the client instance, else the connection. */
  readonly member: string;
  /** JSON value of at most 1 KiB. */
  readonly info: unknown;
  /** Whether the connection has a record, so that it stays a member where this node ends. */
  readonly recorded?: boolean;
}

/** What is known of a connection on every node. */
export interface ConnectionInfo {
  readonly id: string;
  readonly client?: string;
  readonly node: string;
  readonly transport: string;
  readonly userId?: string;
  readonly ip: string;
  /** Where it arrived, as `port:path`; the port is 0 for the application's own. */
  readonly endpoint: string;
  /** The parameters of the endpoint's path. */
  readonly params: Readonly<Record<string, string>>;
  /** ms since 1970. */
  readonly openedAt: number;
  readonly channels: readonly string[];
}

/** A live connection as the registry sees it; `info` is asked whenever the registry writes. */
export interface RegisteredConnection {
  readonly id: string;
  /** Whether it has ended and only its hooks are still to run: it is not listed any more. */
  readonly over?: boolean;
  info(): ConnectionInfo;
}

/**
 * One node's access to the broker. Every call rejects with `broker_unavailable` (nothing was applied) or
 * `outcome_unknown` (it may have been applied) where the broker does not answer.
 */
export interface BrokerSession {
  /** Whether the broker answers and every subscription is in force, as far as this node knows now. Asks nobody. */
  readonly available: boolean;
  /** The records of connections that outlive their links. */
  readonly records: RecordStore;

  /**
   * Appends a turn's publications of one channel: offsets +1 each, all with `tag`; keeps `size + 1`; renews the
   * times to live; announces one {@link Envelope} of what was appended to every subscribed node, this one included.
   * Creates the channel's log if absent. A known key (one earlier in the call too) appends nothing. `note`, printable ASCII
   * without spaces, goes along with the envelope: what it says is for nodes alone, and may get lost.
   */
  append(
    channel: string,
    retention: Retention,
    tag: string,
    items: readonly AppendItem[],
    note?: string,
  ): Promise<AppendResult>;
  /** Reads what follows a position. `null` reads the top alone and creates the log if absent. */
  read(channel: string, position: Position | null, limit: number): Promise<ReadResult>;
  /** The newest `limit` stored publications, oldest first, with the top. Creates the log if absent. */
  newest(channel: string, limit: number): Promise<{ top: Position; items: readonly StoredItem[] }>;
  /** The top of each channel, in order; creates absent logs and renews their time to live. */
  tops(channels: readonly string[]): Promise<readonly Position[]>;

  /** Resolves once announcements of the channel arrive. Counted by the hub: called once per channel. */
  subscribe(channel: string): Promise<void>;
  unsubscribe(channel: string): Promise<void>;

  /** Adds a connection to the members, or renews it; cancels its departure. */
  join(channel: string, entry: PresenceEntry): Promise<void>;
  /** Removes a connection after `graceMs`, kept at the broker: it happens even if this node dies. 0: at once. */
  leave(channel: string, connection: string, graceMs: number): Promise<void>;
  /** The members of a channel. */
  presence(channel: string): Promise<PresenceAnswer>;

  /** Enters a connection in the registry. */
  register(connection: RegisteredConnection): Promise<void>;
  /** The connection's channels changed, or it ended. */
  update(connection: RegisteredConnection): Promise<void>;
  /** The connection is over, and its hooks have run: they run elsewhere if this node dies before. */
  unregister(connection: string): Promise<void>;
  /** The registered connections of all nodes; those with a record are listed by {@link RecordStore.list}. */
  connections(filter: { userId?: string; channel?: string }): Promise<ConnectionInfo[]>;
  /**
   * How many registered connections of other nodes each subject has (see `subjectsOf`), in order; those that have ended
   * do not count, and those of a node that died no more than until they are claimed. Asked once per handshake.
   */
  countElsewhere(subjects: readonly string[]): Promise<readonly number[]>;

  /**
   * Resolves once it is certain that no other node has claimed this node's connections: at once while the broker was
   * heard lately, else with its next answer. `false`: they were claimed, and their hooks are not this node's to run.
   * Ask before each disconnection hook, run it in the same turn, then `unregister`.
   */
  holdsLease(): Promise<boolean>;

  /**
   * Writes revocations, for all nodes; of the same token or user the later times count. Nothing is announced. Repeating it
   * changes nothing. Rejects with `broker_unavailable` also where there would be more than `MAX_REVOCATIONS`.
   */
  revoke(revocations: readonly Revocation[]): Promise<void>;
  /** The revocations whose time is not over. */
  revocations(): Promise<readonly Revocation[]>;

  /** Keeps a text under a key for `ttlMs`, to be taken once. The key was never used before. */
  putOnce(key: string, text: string, ttlMs: number): Promise<void>;
  /** Takes a text that was put: of any number of calls, on whatever nodes, one gets it. */
  takeOnce(key: string): Promise<string | undefined>;

  /**
   * Applies what is due: departures, and, unless `claims` is false, the claims of connections whose nodes died. Called at
   * least once a second by every node.
   */
  sweep(claims?: boolean): Promise<void>;
  /** Ends the session; the node's members leave at once and its connections leave the registry. */
  close(): Promise<void>;
}
