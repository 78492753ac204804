import type { DisconnectData } from '../../protocol/frames.js';
import type { Position } from '../../protocol/position.js';

/** What waits in a connection's inbox at most: one entry more, and the connection is over. */
export const MAX_INBOX_ENTRIES = 256;
/** The same in bytes of UTF-8. */
export const MAX_INBOX_BYTES = 256 * 1024;
/** How long it is told how a connection ended, ms: a peer that comes back meanwhile learns whether to connect anew. */
export const TOMBSTONE_MS = 120_000;

/** What was known of a connection when it began, and does not change. */
export interface RecordOrigin {
  readonly id: string;
  /** SHA-256 of the secret half of its pass, in base64url: nobody who reads the broker's memory gets in by that. */
  readonly secretHash: string;
  /** Where it arrived, as `port:path`. */
  readonly endpoint: string;
  readonly transport: string;
  readonly ip: string;
  readonly params: Readonly<Record<string, string>>;
  /** ms since 1970. */
  readonly openedAt: number;
  /** What it counts for: see `subjectsOf`. */
  readonly subjects: readonly string[];
}

/** An identity as JSON holds it. */
export interface StoredIdentity {
  readonly id: string;
  readonly claims: unknown;
  readonly expiresAt?: number;
  readonly channels?: readonly string[];
}

/** A channel of a record. */
export interface StoredSubscription {
  readonly channel: string;
  /** Its number in cursors; never used twice in a record. */
  readonly slot: number;
  /** Where the subscription began: a peer that names no position goes on from there. */
  readonly start: Position;
  /** Whether the application subscribed the peer. */
  readonly trusted: boolean;
}

/** What changes of a record, besides its channels. */
export interface RecordState {
  readonly client?: string;
  readonly user?: StoredIdentity;
  /** What the application keeps with the connection, as JSON text. */
  readonly data?: string;
  /** When the peer is to be asked for new credentials, ms since 1970; once it was, a time after their end. */
  readonly askAt?: number;
}

/** A connection that outlives its links and its nodes. */
export interface ConnectionRecord extends RecordState {
  readonly origin: RecordOrigin;
  readonly subscriptions: readonly StoredSubscription[];
  /** How it ended. */
  readonly over?: DisconnectData;
}

/** A frame in an inbox. Numbers rise by one from 1. */
export interface InboxEntry {
  readonly n: number;
  readonly text: string;
}

/** What a link finds: the record, and the frames that the peer has not acknowledged. */
export interface RecordView {
  readonly record: ConnectionRecord;
  /** The number of the link that was attached last. */
  readonly link: number;
  readonly entries: readonly InboxEntry[];
  /** The number of the newest frame there ever was. */
  readonly newest: number;
}

/** A frame for an inbox. */
export interface InboxItem {
  readonly text: string;
  /** The call that it answers, and the attempt that runs it: it is dropped where that is not noted any more. */
  readonly call?: { readonly key: string; readonly attempt: string };
  /** Whether it is the last answer of the call, which is then noted no more, or as ended until its number is committed. */
  readonly last?: boolean;
}

/** A sequence of frames of a peer, to be run. */
export interface SendAttempt {
  readonly seq: number;
  /** What its frames are known by: other frames under the same number are a mistake of the peer. */
  readonly hash: string;
  /** Unique: who runs it. */
  readonly attempt: string;
}

/**
 * What to do with a sequence number: `run` it; run it `again`, as whoever ran it did not end in time; answer what was
 * stored; or refuse.
 */
export type SendVerdict =
  | { readonly verdict: 'run'; readonly record: ConnectionRecord }
  /** `ended`: the calls whose last answers came to the inbox already. */
  | { readonly verdict: 'again'; readonly record: ConnectionRecord; readonly ended: readonly string[] }
  | { readonly verdict: 'in_progress' | 'mismatch' | 'gone' }
  | { readonly verdict: 'done'; readonly answers: string }
  | { readonly verdict: 'sequence'; readonly expected: number };

/** A connection that is over, in this node's hands: its last hooks are to be run. */
export interface EndedRecord {
  readonly record: ConnectionRecord;
  /** 1, or more where those who had it before died. */
  readonly attempt: number;
}

/** A record, and the node of its newest link; empty where it never had one. */
export interface ListedRecord {
  readonly record: ConnectionRecord;
  readonly node: string;
}

/**
 * The records of connections that outlive their links, for all nodes. A record lives until it is ended, or until its
 * deadline passed and a node has claimed it. Whoever ends or claims it runs its last hooks, then settles it; where that
 * node dies meanwhile, another claims it. Steps on one record are atomic, and applied in the order of a session's calls.
 * Times are the broker's.
 *
 * The node whose link was attached last is told by `onNudge` of all that a link has to know: frames in the inbox, other
 * channels, the end, and that another node has attached a link. A nudge may be lost: a link looks by itself from time to
 * time.
 */
export interface RecordStore {
  /** Whether records go on living where this session ends now. */
  readonly lasting: boolean;
  /** Writes a new record, due after `forMs`. Its id was never used before. */
  create(record: ConnectionRecord, forMs: number): Promise<void>;
  /** Reads a record; one that is over too, for a while. */
  read(id: string): Promise<ConnectionRecord | undefined>;
  /** Attaches a link of this node, in place of the one before: acknowledges frames up to `ack`; due after `forMs`. */
  attach(id: string, ack: number, forMs: number): Promise<RecordView | undefined>;
  /** What an attached link has to know. Where it is still the newest, the record is due after `forMs`. */
  look(id: string, link: number, ack: number, forMs: number): Promise<RecordView | undefined>;
  /** Removes the frames of the inbox up to a number. */
  acknowledge(id: string, ack: number): Promise<void>;
  /** The link is gone: the record is due after `forMs`, unless another was attached meanwhile. */
  detach(id: string, link: number, forMs: number): Promise<void>;
  /** Writes what has changed. Of other credentials the node of the link is told. */
  write(id: string, state: RecordState): Promise<void>;
  /** Adds a channel, or keeps the one there is; resolves with its slot, `undefined` where the record is over. */
  enter(id: string, subscription: Omit<StoredSubscription, 'slot'>): Promise<number | undefined>;
  leave(id: string, channel: string): Promise<void>;
  /** Adds frames to the inbox, all or none. */
  push(id: string, items: readonly InboxItem[]): Promise<'pushed' | 'full' | 'gone'>;
  /** Begins a sequence number: it is this attempt's for `forMs`. */
  begin(id: string, attempt: SendAttempt, forMs: number): Promise<SendVerdict>;
  /** It is this attempt's for `forMs` more. False: it is no longer. */
  extend(id: string, attempt: SendAttempt, forMs: number): Promise<boolean>;
  /** Stores the answers (JSON text), and ends the number. False: it is another attempt's, and these answers are nothing. */
  commit(id: string, attempt: SendAttempt, answers: string): Promise<boolean>;
  /**
   * Notes that a call's answers will come to the inbox, for `forMs`. Where that lapses once its number is committed, the
   * peer is answered `outcome_unknown`. Noted again, it is noted for longer; false: it had lapsed, or the record is over.
   */
  note(id: string, call: string, attempt: SendAttempt, forMs: number): Promise<boolean>;
  /** Tells the node that runs a call to cancel it. */
  cancel(id: string, call: string): Promise<void>;
  /** Ends a record. Resolves with it where its hooks are this node's to run, within `forMs`. */
  end(id: string, over: DisconnectData, forMs: number): Promise<ConnectionRecord | undefined>;
  /** Claims records whose deadline has passed, at most `count`: their hooks are to be run within `forMs`. */
  claim(count: number, over: DisconnectData, forMs: number): Promise<EndedRecord[]>;
  /** The hooks of a record have run. */
  settle(id: string): Promise<void>;
  /** How many records each subject has. */
  count(subjects: readonly string[]): Promise<readonly number[]>;
  /** The ids of a user's records. */
  ofUser(userId: string): Promise<readonly string[]>;
  /** Records that are not over. */
  list(filter: { userId?: string; channel?: string }): Promise<ListedRecord[]>;
}
