/** What a peer may do after an error or a close: nothing, try again later, get a new token first, or decide itself. */
export type Retry = 'no' | 'yes' | 'token' | 'subscribe' | 'connection' | 'application';

/** What a peer makes of an error. */
export interface PeerRow {
  /** WebSocket close code; absent where the error never closes a connection. */
  readonly close?: number;
  readonly retry: Retry;
}

/** One row of the error table: the close code, the HTTP status, what the peer may do next, and the default text. */
export interface ErrorRow extends PeerRow {
  /** HTTP status of a refusal; absent where no HTTP request can be refused so. */
  readonly http?: number;
  readonly message: string;
}

/**
 * The one table of errors, in two halves, as a client needs no more than this one. Close codes, HTTP statuses, what a
 * client does next and the page of codes in the docs all follow from them. Here: the close code, from which what a peer
 * may do next follows, or that itself where the error never closes a connection.
 */
const PEER_ROWS = {
  bad_frame: 'no',
  invalid: 'no',
  frame_too_large: 1009,
  unknown_event: 'no',
  unknown_channel: 'no',
  rejected: 'no',
  forbidden: 4403,
  origin_refused: 4403,
  unauthenticated: 4401,
  token_expired: 4401,
  revoked: 4410,
  not_available: 'no',
  superseded: 4409,
  too_many_channels: 'no',
  too_many_connections: 4530,
  rate_limited: 4529,
  draining: 4503,
  lease_lost: 4504,
  heartbeat_timeout: 4507,
  slow_consumer: 4508,
  internal: 4500,
  broker_unavailable: 'yes',
  outcome_unknown: 'application',
  position_lost: 'subscribe',
  gone: 'connection',
  resync: 'yes',
  send_sequence: 'no',
  send_in_progress: 'yes',
  send_mismatch: 'no',
  answers_too_large: 'no',
} as const satisfies Record<string, number | Retry>;

/** The name of an error: `code` in `error`, `exception` and `$unsubscribed`, `reason` in `$disconnect`. */
export type ErrorCode = keyof typeof PEER_ROWS;

/** The whole table: each row has its HTTP status and its text as well. */
export const ERRORS: Readonly<Record<ErrorCode, ErrorRow>> = /* @__PURE__ */ withTexts({
  bad_frame: [400, 'The frame is not a valid protocol message'],
  invalid: [400, 'The data does not have the expected shape'],
  frame_too_large: [413, 'The frame is larger than the limit'],
  unknown_event: [404, 'No handler takes this event'],
  unknown_channel: [404, 'No such channel is declared'],
  rejected: [403, 'The request was rejected'],
  forbidden: [403, 'Not allowed'],
  origin_refused: [403, 'This origin is not allowed'],
  unauthenticated: [401, 'Credentials are missing or not valid'],
  token_expired: [401, 'The token has expired'],
  revoked: [401, 'The credentials were revoked'],
  not_available: [404, 'Not available here'],
  superseded: [409, 'A newer connection took over'],
  too_many_channels: [429, 'The connection has too many channels'],
  too_many_connections: [429, 'Too many connections'],
  rate_limited: [429, 'Too many frames'],
  draining: [503, 'This node is going away'],
  lease_lost: [503, 'This node was cut off and gave the connection up'],
  heartbeat_timeout: [undefined, 'The peer was not heard in time'],
  slow_consumer: [503, 'The peer reads too slowly'],
  internal: [500, 'Internal server error'],
  broker_unavailable: [503, 'The broker cannot be reached; nothing was applied'],
  outcome_unknown: [504, 'It is not known whether this was applied'],
  position_lost: [410, 'The position is no longer in the history'],
  gone: [410, 'The connection is over'],
  resync: [409, 'Send the positions again'],
  send_sequence: [409, 'Not the next sequence number'],
  send_in_progress: [409, 'This sequence number is being handled'],
  send_mismatch: [422, 'This sequence number was used for other frames'],
  answers_too_large: [507, 'The answers are too large to store'],
});

function withTexts(texts: Record<ErrorCode, readonly [http: number | undefined, message: string]>): typeof ERRORS {
  const rows = Object.entries(texts).map(([code, [http, message]]) => {
    const row: ErrorRow = { ...peerRow(code as ErrorCode), ...(http !== undefined && { http }), message };
    return [code, row];
  });
  return Object.fromEntries(rows) as typeof ERRORS;
}

/** The normal end of a connection (RFC 6455, section 7.4.1). */
export const CLOSE_NORMAL = 1000;
/** The endpoint goes away (RFC 6455, section 7.4.1). */
export const CLOSE_GOING_AWAY = 1001;

/** Tells whether a text names an error of the table. */
export function isErrorCode(text: unknown): text is ErrorCode {
  return typeof text === 'string' && Object.hasOwn(PEER_ROWS, text);
}

/** What a peer makes of an error. */
export function peerRow(code: ErrorCode): PeerRow {
  const row: number | Retry = PEER_ROWS[code];
  return typeof row === 'number' ? { close: row, retry: retryAfterClose(row) } : { retry: row };
}

/** The row of an error. */
export function errorRow(code: ErrorCode): ErrorRow {
  return ERRORS[code];
}

/** The close code for an error. One that has none closes, where it must, with 4500 if coming back helps, else with 4403. */
export function closeCodeOf(code: ErrorCode): number {
  const { close, retry } = peerRow(code);
  return close ?? (retry === 'yes' ? 4500 : 4403);
}

/**
 * What a client does after a close with this code: `'no'` never again, `'token'` once a new token is there, `'yes'`
 * with backoff. Codes 1002, 1003 and 1007–1010 are defects that a retry repeats.
 */
export function retryAfterClose(code: number): 'no' | 'token' | 'yes' {
  if (code === 4401) return 'token';
  if (code >= 4400 && code < 4500) return 'no';
  if (code === 1002 || code === 1003 || (code >= 1007 && code <= 1010)) return 'no';
  return 'yes';
}

/** The `error` of an answer. `details` never repeats what the peer sent. */
export interface ErrorBody {
  code: ErrorCode;
  message: string;
  details?: unknown;
  retryAfterMs?: number | undefined;
}

/** An error with a code of the table, and without its text: what the client exports as `RealtimeException`. */
export class CodedException extends Error {
  override readonly name = 'RealtimeException';
  /** After how many milliseconds a retry makes sense. */
  retryAfterMs?: number | undefined;

  constructor(
    readonly code: ErrorCode,
    message: string = code,
    readonly details?: unknown,
  ) {
    super(message);
  }

  /** The body of an answer for this error. */
  toBody(): ErrorBody {
    const { code, message, details, retryAfterMs } = this;
    return { code, message, details, retryAfterMs };
  }
}

/**
 * An error with a code of the table: thrown in hooks and handlers to answer the peer with exactly this code, and what
 * the library itself throws. Recognised across copies of the package by its `code`, not by `instanceof`.
 */
export class RealtimeException extends CodedException {
  constructor(code: ErrorCode, message: string = ERRORS[code].message, details?: unknown) {
    super(code, message, details);
  }
}

/** Tells whether something thrown is a {@link RealtimeException} of any copy of the package. */
export function isRealtimeException(error: unknown): error is RealtimeException {
  return error instanceof Error && error.name === 'RealtimeException' && isErrorCode((error as RealtimeException).code);
}
