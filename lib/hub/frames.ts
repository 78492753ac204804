import { encodeAnswer, encodeError, toJson } from '../protocol/encode.js';
import { isRealtimeException, RealtimeException, ERRORS, type ErrorBody } from '../protocol/errors.js';
import { isFrameId, MAX_EVENT_LENGTH, parseFrame, type InboundFrame, type SubscribeData } from '../protocol/frames.js';
import type { Position } from '../protocol/position.js';
import type { Application } from './application.js';
import { Call, type Caller } from './call.js';
import type { Connection } from './connection.js';
import type { ChannelMatch } from './definition.js';
import type { FrameLimit } from './frame-limit.js';
import { encodeHistory, historyQuery, parseSince, type History, type HistoryQuery } from './history.js';
import type { UserIdentity } from './identity.js';
import type { AppendItem } from './ports/broker.js';
import type { Log } from './log.js';
import type { Meter } from './ports/meter.js';
import { keyOf, requireKey } from './idempotency.js';
import { mapBounded } from './map-bounded.js';
import type { Presence } from './presence.js';
import type { TraceSpan } from './ports/tracing.js';
import type { Subscriptions } from './subscriptions.js';
import type { Turn } from './turn.js';

/** Answers a reserved event, with JSON text. */
type Reply = (json: string) => void;

/** What may wait while connection hooks run. */
const MAX_HELD_FRAMES = 32;
const MAX_HELD_BYTES = 128 * 1024;
/** Channels of a `$resume` that count as one frame. */
const CHANNELS_PER_FRAME = 16;
/** Channels of a `$resume` that are authorised at once. */
const RESUME_CONCURRENCY = 8;
const MAX_CLIENT_LENGTH = 64;
/** What a peer is told of whose frames as many are being served as may be at once. */
const TOO_MANY: ErrorBody = { code: 'rate_limited', message: 'Too many frames are being served', retryAfterMs: 1_000 };

/** What frames ask of the hub. */
export interface FrameHost {
  readonly subscriptions: Subscriptions;
  readonly presence: Presence;
  readonly application: Application;
  readonly log: Log;
  readonly turn: Turn;
  publish(match: ChannelMatch, item: AppendItem): Promise<Position>;
  history(match: ChannelMatch, query: HistoryQuery): Promise<History>;
  /** Says who a token belongs to. Rejects with a `RealtimeException`. */
  authenticate(token: string): Promise<UserIdentity>;
  /** The first token came: guards and hooks run, with it. */
  authenticated(connection: Connection, user: UserIdentity): void;
  /** A later token of the same user came. */
  renewed(connection: Connection, user: UserIdentity): void;
}

interface Held {
  readonly frames: InboundFrame[];
  bytes: number;
  resumes: number;
}

/** What peers send: reads frames, serves the reserved events, and gives the others to the application's handlers. */
export class Frames {
  readonly #held = new Map<Connection, Held>();
  #holding = false;

  constructor(
    private readonly host: FrameHost,
    private readonly limit: FrameLimit,
    private readonly maxInFlight: number,
    private readonly meter: Meter,
  ) {}

  /** A frame came; `undefined`: one that is not UTF-8. */
  receive(connection: Connection, text: string | undefined, bytes: number): void {
    if (!this.limit.takes(connection, text ?? '')) {
      this.meter.unread.add(bytes);
      return;
    }
    if (text === undefined) {
      this.meter.bad.add(bytes);
      connection.refuse(undefined, 'bad_frame', 'The frame is not UTF-8');
      return;
    }
    connection.overhear(text);
    const frame = parseFrame(text);
    if ('bad' in frame) {
      this.meter.bad.add(bytes);
      if (frame.id === undefined && connection.hasMessageListeners) return;
      connection.refuse(frame.id, 'bad_frame', frame.bad);
      return;
    }
    const tally = this.meter.event(frame.event);
    tally.add(bytes);
    if (frame.event === '$pong') {
      connection.reply(frame.id, 'null');
      return;
    }
    switch (connection.phase) {
      case 'open':
        if (this.#holding) this.#hold(connection, frame, text.length);
        else this.#serve(connection, frame, tally);
        return;
      case 'opening':
        this.#hold(connection, frame, text.length);
        return;
      case 'waiting':
        this.#serveStranger(connection, frame);
        return;
      case 'handshake':
      case 'closing':
      case 'closed':
        return;
      default:
        connection.phase satisfies never;
    }
  }

  /** The connection hooks have run: serves what was held. */
  release(connection: Connection): void {
    if (this.#holding) return;
    const held = this.#held.get(connection);
    this.#held.delete(connection);
    for (const frame of held?.frames ?? []) {
      if (connection.phase === 'open') this.#serve(connection, frame);
    }
  }

  /** Holds all frames, within the bounds of a connection that is being opened, or no longer. */
  hold(hold: boolean): void {
    this.#holding = hold;
    if (hold) return;
    for (const connection of [...this.#held.keys()]) if (connection.phase === 'open') this.release(connection);
  }

  /** The connection is over. */
  drop(connection: Connection): void {
    this.#held.delete(connection);
  }

  /** The body of an answer for whatever was thrown; what is no `RealtimeException` is logged and told as `internal`. */
  describe(error: unknown): ErrorBody {
    if (isRealtimeException(error)) return error.toBody();
    this.host.log.error('A frame could not be served', error);
    return { code: 'internal', message: ERRORS.internal.message };
  }

  #hold(connection: Connection, frame: InboundFrame, bytes: number): void {
    let held = this.#held.get(connection);
    if (held === undefined) this.#held.set(connection, (held = { frames: [], bytes: 0, resumes: 0 }));
    const first = frame.event === '$resume' && held.resumes === 0;
    if (!first && (held.frames.length >= MAX_HELD_FRAMES || held.bytes + bytes > MAX_HELD_BYTES)) {
      this.meter.throttled.add('held_frames');
      connection.refuse(frame.id, 'rate_limited', 'Too many frames wait to be served');
      return;
    }
    if (first) held.resumes++;
    else held.bytes += bytes;
    held.frames.push(frame);
  }

  /** The token is awaited: nothing else is served. */
  #serveStranger(connection: Connection, frame: InboundFrame): void {
    const { id, event, data } = frame;
    const token = (data as { token?: unknown } | undefined)?.token;
    if ((event !== '$auth' && event !== '$resume') || typeof token !== 'string') {
      connection.refuse(id, 'unauthenticated');
      return;
    }
    connection.enter('opening');
    if (event === '$resume') this.#hold(connection, frame, 0); // first, whatever comes while the token is looked at
    this.host.authenticate(token).then(
      (user) => {
        if (connection.over) return;
        this.host.authenticated(connection, user);
        if (event === '$auth')
          connection.opened
            .then(() => this.#tellUser(connection, (json) => connection.reply(id, json)))
            .catch(() => undefined);
      },
      (error: unknown) => connection.fail(this.describe(error).code),
    );
  }

  #serve(connection: Connection, frame: InboundFrame, tally = this.meter.event(frame.event)): void {
    const { id, event, data } = frame;
    if (connection.framesInFlight >= this.maxInFlight && !this.#makesRoom(connection, event)) {
      this.#refuseMore(connection, id);
      return;
    }
    if (event.charCodeAt(0) !== 36 /* $ */) {
      connection.spoke = true;
      this.#handle(connection, frame, new Call(connection, this.meter, id, event, undefined, tally), false);
      return;
    }
    const serve = this.#reserved(event);
    if (serve === undefined) {
      connection.refuse(id, 'unknown_event');
      return;
    }
    if (event !== '$auth' && event !== '$resume') connection.spoke = true;
    const reply = (json: string): void => connection.reply(id, json);
    const frames = event === '$cancel' ? 0 : 1; // it ends at once
    connection.framesInFlight += frames;
    const begun = tally.begin();
    const span = this.#span(connection, frame, false);
    (span === undefined
      ? serve.call(this, connection, data, reply)
      : span.run(() => serve.call(this, connection, data, reply))
    )
      .catch((error: unknown) => this.#fail(connection, id, error, span))
      .finally(() => {
        connection.framesInFlight -= frames;
        tally.end(begun);
        span?.end();
      });
  }

  /** Gives a frame to the application's handler. */
  #handle(connection: Connection, frame: InboundFrame, call: Call, request: boolean): void {
    const { application } = this.host;
    const span = this.#span(connection, frame, request);
    call.span = span;
    const { data } = frame;
    const taken =
      span === undefined
        ? application.handle(connection, data, call)
        : span.run(() => application.handle(connection, data, call));
    if (taken) return;
    call.handled();
    if (!request && frame.id === undefined && connection.hasMessageListeners) return;
    call.fail({ code: 'unknown_event', message: ERRORS.unknown_event.message });
  }

  /** The span of a frame; none where nothing is traced, nor of what says nothing of the application. */
  #span(connection: Connection, { id, event, traceparent }: InboundFrame, request: boolean): TraceSpan | undefined {
    const { tracing } = this.host.turn;
    if (tracing === undefined || event === '$cancel' || this.meter.event(event) === this.meter.unknown)
      return undefined;
    return tracing.frame({ event, answered: id !== undefined, connection, traceparent, request });
  }

  #refuseMore(to: Pick<Caller, 'answer'>, id: InboundFrame['id']): void {
    this.meter.throttled.add('frames_in_flight');
    this.meter.error('rate_limited');
    to.answer(encodeError(id, TOO_MANY));
  }

  #fail(to: Pick<Caller, 'answer'>, id: InboundFrame['id'], error: unknown, span?: TraceSpan): void {
    const body = this.describe(error);
    span?.fail(body.code, error);
    this.meter.error(body.code);
    to.answer(encodeError(id, body));
  }

  /** What is served also where the bound is reached: what ends streams, and a token in time, one after another. */
  #makesRoom(connection: Connection, event: string): boolean {
    return event === '$cancel' || (event === '$auth' && connection.framesInFlight <= this.maxInFlight);
  }

  /**
   * Serves one frame of several that came in a request: what answers it goes to `to`, as does the end of a handler. `key`
   * names the frame whenever it is repeated. Resolves where the frame is reserved once it was served, else at once.
   */
  async run(connection: Connection, frame: InboundFrame, to: Caller, key: string): Promise<void> {
    const { id, event } = frame;
    if (connection.framesInFlight >= this.maxInFlight && !this.#makesRoom(connection, event)) {
      this.#refuseMore(to, id);
      to.settled?.();
      return;
    }
    if (event.charCodeAt(0) !== 36 /* $ */) {
      this.#handle(connection, frame, new Call(to, this.meter, id, event, key), true);
      return;
    }
    const reply = (json: string): void => {
      if (id !== undefined) to.answer(encodeAnswer(id, json));
    };
    const begun = this.#reserved(event) === undefined ? 0 : this.meter.event(event).begin();
    connection.framesInFlight++;
    const span = event === '$pong' ? undefined : this.#span(connection, frame, true);
    const running = () => this.#runReserved(connection, frame, reply, key);
    try {
      await (span === undefined ? running() : span.run(running));
    } catch (error) {
      this.#fail(to, id, error, span);
    } finally {
      connection.framesInFlight--;
      this.meter.event(event).end(begun);
      span?.end();
    }
  }

  async #runReserved(connection: Connection, { event, data }: InboundFrame, reply: Reply, key: string): Promise<void> {
    if (event === '$pong') reply('null');
    else if (event === '$publish') await this.#publish(connection, data, reply, `c:${key}`);
    else if (this.#reserved(event) === undefined) throw new RealtimeException('unknown_event');
    else await this.#reserved(event)!.call(this, connection, data, reply);
  }

  #reserved(event: string): ((connection: Connection, data: unknown, reply: Reply) => Promise<void>) | undefined {
    switch (event) {
      case '$subscribe':
        return this.#subscribe;
      case '$unsubscribe':
        return this.#unsubscribe;
      case '$publish':
        return this.#publish;
      case '$resume':
        return this.#resume;
      case '$history':
        return this.#history;
      case '$presence':
        return this.#presence;
      case '$auth':
        return this.#auth;
      case '$cancel':
        return this.#cancel;
      default:
        return undefined;
    }
  }

  async #subscribe(connection: Connection, data: unknown, reply: Reply): Promise<void> {
    const { channel: name, since } = record(data, 'data');
    const { channel } = this.host.subscriptions.match(name);
    await this.host.subscriptions.inOrder(connection, channel, async () => {
      const begin = await this.host.subscriptions.prepare(connection, channel, parseSince(since));
      const answer = begin();
      reply(toJson(answer));
      connection.subscriptions.get(channel)?.advance();
    });
  }

  async #unsubscribe(connection: Connection, data: unknown, reply: Reply): Promise<void> {
    const { channel } = record(data, 'data');
    const match = this.host.subscriptions.match(channel);
    await this.host.subscriptions.inOrder(connection, match.channel, async () => {
      this.host.subscriptions.end(connection, match.channel, 'left', true);
      reply('null');
      return Promise.resolve();
    });
  }

  async #publish(connection: Connection, data: unknown, reply: Reply, frameKey?: string): Promise<void> {
    const { channel, event, data: payload, key, echo } = record(data, 'data');
    const match = this.host.subscriptions.matchFor(connection, channel);
    requirePublishable(event);
    if (key !== undefined) requireKey(key);
    if (echo !== undefined && typeof echo !== 'boolean') throw new RealtimeException('invalid', '"echo" is a boolean');
    const published = await this.host.application.publishing(connection, match, event, payload);
    if (published === undefined) {
      reply('null');
      return;
    }
    const at = await this.host.publish(match, {
      event,
      data: toJson(published),
      ...(echo === false ? { exclude: connection.client } : {}),
      ...keyOf(connection, key, frameKey),
    });
    reply(toJson({ position: at }));
  }

  async #resume(connection: Connection, data: unknown, reply: Reply): Promise<void> {
    const { client, channels } = record(data, 'data');
    // A connection with a record may repeat what it sent.
    if (!connection.recorded && (connection.spoke || connection.resumed)) {
      throw new RealtimeException('bad_frame', '$resume comes first, and once');
    }
    if (typeof client !== 'string' || client === '' || client.length > MAX_CLIENT_LENGTH) {
      throw new RealtimeException('invalid', `"client" is text of 1 to ${MAX_CLIENT_LENGTH} characters`);
    }
    const wanted = Object.entries(record(channels, 'channels'));
    this.limit.charge(connection, wanted.length / CHANNELS_PER_FRAME - 1);
    connection.introduce(client);
    connection.resumed = true;
    const begins = await mapBounded(wanted, RESUME_CONCURRENCY, async ([channel, since]) => {
      try {
        return await this.host.subscriptions.prepare(connection, channel, parseSince(since));
      } catch (error) {
        return this.describe(error);
      }
    });
    if (connection.phase !== 'open') return;
    const answers: Record<string, SubscribeData | { error: ErrorBody }> = Object.create(null) as Record<string, never>;
    begins.forEach((begin, i) => {
      answers[wanted[i]![0]] = typeof begin === 'function' ? this.#begin(begin) : { error: begin };
    });
    reply(toJson({ connection: connection.id, channels: answers }));
    for (const subscription of connection.subscriptions.values()) subscription.advance();
  }

  #begin(begin: () => SubscribeData): SubscribeData | { error: ErrorBody } {
    try {
      return begin();
    } catch (error) {
      return { error: this.describe(error) };
    }
  }

  async #history(connection: Connection, data: unknown, reply: Reply): Promise<void> {
    const { channel, since, limit, reverse } = record(data, 'data');
    const match = this.host.subscriptions.matchFor(connection, channel);
    const query = historyQuery(since, limit, reverse);
    await this.#requireAccess(connection, match);
    reply(encodeHistory(await this.host.history(match, query), query));
  }

  async #presence(connection: Connection, data: unknown, reply: Reply): Promise<void> {
    const { channel } = record(data, 'data');
    const match = this.host.subscriptions.matchFor(connection, channel);
    await this.#requireAccess(connection, match);
    if (!match.definition.presence) throw new RealtimeException('not_available', 'The channel has no presence');
    reply(toJson(await this.host.presence.members(match.channel)));
  }

  /** What is read of a channel needs what subscribing needs. */
  async #requireAccess(connection: Connection, match: ChannelMatch): Promise<void> {
    if (connection.subscriptions.has(match.channel)) return;
    await this.host.subscriptions.authorise(connection, match);
  }

  async #auth(connection: Connection, data: unknown, reply: Reply): Promise<void> {
    const { token } = record(data, 'data');
    if (typeof token !== 'string') throw new RealtimeException('invalid', '"token" is text');
    const user = await this.host.authenticate(token);
    if (connection.user === undefined || connection.user.id !== user.id) {
      throw new RealtimeException('forbidden', 'The token belongs to another user than the connection');
    }
    this.host.renewed(connection, user);
    this.#tellUser(connection, reply);
  }

  /** The answer to `$auth`. */
  #tellUser(connection: Connection, reply: Reply): void {
    const { user } = connection;
    if (user === undefined) return;
    const expiresAt = user.expiresAt === undefined ? {} : { expiresAt: user.expiresAt };
    reply(toJson({ user: { id: user.id }, ...expiresAt }));
  }

  async #cancel(connection: Connection, data: unknown, reply: Reply): Promise<void> {
    const { id: cancelled } = record(data, 'data');
    if (!isFrameId(cancelled)) throw new RealtimeException('invalid', '"id" is the id of a stream');
    connection.cancel(cancelled);
    reply('null');
    return Promise.resolve();
  }
}

/** An object, or `invalid` is thrown. */
function record(value: unknown, name: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new RealtimeException('invalid', `"${name}" is an object`);
}

/** Checks the event of a publication. Throws `invalid`. */
export function requirePublishable(event: unknown): asserts event is string {
  if (typeof event === 'string' && event !== '' && event.length <= MAX_EVENT_LENGTH && !event.startsWith('$')) return;
  throw new RealtimeException(
    'invalid',
    `An event is text of 1 to ${MAX_EVENT_LENGTH} characters that does not start with "$"`,
  );
}
