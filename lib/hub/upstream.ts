import { createHash, randomUUID } from 'node:crypto';
import { encodeError } from '../protocol/encode.js';
import { ERRORS, RealtimeException, type ErrorCode } from '../protocol/errors.js';
import { checkFrame, type FrameId, type InboundFrame } from '../protocol/frames.js';
import type { Application } from './application.js';
import type { Call, Caller } from './call.js';
import type { FrameLimit } from './frame-limit.js';
import type { Frames } from './frames.js';
import type { Clock } from './ports/clock.js';
import type { Meter } from './ports/meter.js';
import type { InboxItem, RecordStore, SendAttempt, SendVerdict } from './ports/records.js';
import type { SendAnswer } from './ports/transport.js';
import type { RecordConnection } from './record-connection.js';

/** For how long a node that runs frames, or a call, is believed to, ms; and how often it says so. */
const PENDING_MS = 30_000;
const EXTEND_MS = 10_000;
/** After how long an answer that has not come will come to the inbox, ms: proxies cut what is silent for a minute. */
const LATE_MS = 20_000;
/** When to ask again for a number that is being run, ms: what a peer repeats by itself is rationed. */
const ASK_AGAIN_MS = 2_000;
/** The most that is stored of the answers to one request, in bytes. */
const MAX_ANSWERS_BYTES = 64 * 1024;

/** What the upstream is made of. */
export interface UpstreamParts {
  readonly store: RecordStore;
  readonly frames: Frames;
  readonly limit: FrameLimit;
  readonly application: Pick<Application, 'idempotent'>;
  readonly clock: Clock;
  readonly maxFrameBytes: number;
  readonly meter: Meter;
}

/**
 * Frames that come by requests: sequences with numbers, each run once, in order, by whichever node they come to. Answers
 * are stored, so that a request can be repeated; of what a node did that died, nobody claims to know.
 */
export class Upstream {
  readonly #renewedAt = new WeakMap<RecordConnection, number>();

  constructor(private readonly parts: UpstreamParts) {}

  /** Debits frames, or other work, of a connection. Throws `rate_limited`. */
  charge(connection: RecordConnection, count: number): void {
    const waitMs = this.parts.limit.admit(connection, count);
    if (waitMs === 0) return;
    const refusal = new RealtimeException('rate_limited');
    refusal.retryAfterMs = Math.max(1, Math.ceil(waitMs));
    throw refusal;
  }

  async send(connection: RecordConnection, seq: number, frames: readonly unknown[]): Promise<SendAnswer> {
    const { store, clock } = this.parts;
    this.charge(connection, frames.length);
    const hash = createHash('sha256').update(JSON.stringify(frames)).digest('base64url');
    const attempt: SendAttempt = { seq, hash, attempt: randomUUID() };
    await connection.outgoing.flushed();
    const begun = await store.begin(connection.id, attempt, PENDING_MS);
    if (begun.verdict === 'done') return { seq, answers: begun.answers };
    if (begun.verdict !== 'run' && begun.verdict !== 'again') throw refusalOf(begun);
    const ended = begun.verdict === 'again' ? new Set(begun.ended) : undefined;
    connection.refresh(begun.record);
    let lost = false;
    const stop = clock.every(EXTEND_MS, () => {
      store.extend(connection.id, attempt, PENDING_MS).then(
        (held) => (lost ||= !held),
        () => undefined,
      );
    });
    try {
      const answers: string[] = [];
      for (let i = 0; i < frames.length && !lost && !connection.over; i++) {
        answers.push(...(await this.#run(connection, frames[i], i, { attempt, ended })));
      }
      await connection.outgoing.flushed();
      connection.save();
      if (connection.over) throw new RealtimeException('gone');
      const text = `[${answers.join(',')}]`;
      if (!(await store.commit(connection.id, attempt, storable(text, frames)))) {
        throw new RealtimeException('send_in_progress');
      }
      return { seq, answers: text };
    } finally {
      stop();
    }
  }

  /** Ends the calls that go on: this node goes away. Each is told so. */
  abandon(connection: RecordConnection): void {
    for (const [key, { attempt, stop }] of [...connection.noted]) {
      const text = this.#refuse(JSON.parse(key) as FrameId, 'draining');
      connection.later({ text, call: { key, attempt: attempt.attempt }, last: true });
      stop();
    }
  }

  /** Says that the calls of a connection which this node runs still run; ends those that are not this node's any more. */
  renew(connection: RecordConnection): void {
    const now = this.parts.clock.now();
    if (connection.noted.size === 0 || now - (this.#renewedAt.get(connection) ?? -Infinity) < EXTEND_MS) return;
    this.#renewedAt.set(connection, now);
    for (const [key, noted] of connection.noted) {
      this.parts.store.note(connection.id, key, noted.attempt, PENDING_MS).then(
        (held) => {
          if (held || connection.noted.get(key) !== noted) return;
          connection.noted.delete(key);
          noted.stop();
        },
        () => undefined,
      );
    }
  }

  /** Runs one frame; resolves with what is answered to it in the response. */
  async #run(
    connection: RecordConnection,
    value: unknown,
    index: number,
    { attempt, ended }: { attempt: SendAttempt; ended: ReadonlySet<string> | undefined },
  ): Promise<readonly string[]> {
    const { frames, application, maxFrameBytes } = this.parts;
    const text = JSON.stringify(value);
    const frame = checkFrame(value, text);
    if ('bad' in frame) {
      this.parts.meter.bad.add(Buffer.byteLength(text));
      return [this.#refuse(frame.id, 'bad_frame', frame.bad)];
    }
    const { id, event } = frame;
    const bytes = Buffer.byteLength(text);
    this.parts.meter.event(event).add(bytes);
    if (bytes > maxFrameBytes) return [this.#refuse(id, 'frame_too_large')];
    if (id !== undefined && ended?.has(JSON.stringify(id)) === true) return []; // its end is in the inbox
    if (ended !== undefined && !event.startsWith('$') && !application.idempotent(connection, event)) {
      return id === undefined ? [] : [this.#refuse(id, 'outcome_unknown')];
    }
    const sent = new SentFrame(connection, frame, attempt, this.parts);
    await frames.run(connection, frame, sent, `${connection.id}:${attempt.seq}:${index}`);
    if (event.startsWith('$')) return sent.answers;
    await sent.served;
    return sent.answers;
  }

  /** An answer that no frame was run for. */
  #refuse(id: FrameId | undefined, code: ErrorCode, message?: string): string {
    const { meter } = this.parts;
    const text = refuse(id, code, message);
    meter.error(code);
    meter.sent.answer.add(Buffer.byteLength(text));
    return text;
  }
}

/**
 * A frame of a request and its answers: those that come in time go into the response; where it turns out to be a stream,
 * or takes long, they go to the inbox.
 */
class SentFrame implements Caller {
  readonly answers: string[] = [];
  /** Resolves once it is known what of it goes into the response. */
  readonly served: Promise<void>;
  readonly #key: string | undefined;
  /** `noting`: what it answers is held until the broker has it noted; `stopped`: nothing that it answers counts. */
  #state: 'early' | 'noting' | 'late' | 'stopped' = 'early';
  #held: InboxItem[] = [];
  #serve!: () => void;
  #fail!: (error: unknown) => void;

  constructor(
    private readonly connection: RecordConnection,
    private readonly frame: InboundFrame,
    private readonly attempt: SendAttempt,
    private readonly parts: UpstreamParts,
  ) {
    this.#key = frame.id === undefined ? undefined : JSON.stringify(frame.id);
    const cancel = parts.clock.after(LATE_MS, () => this.#goLate());
    this.served = new Promise((resolve, reject) => {
      this.#fail = reject;
      this.#serve = () => {
        cancel();
        resolve();
      };
    });
    this.served.catch(() => undefined); // of reserved events nobody waits for it
  }

  get calls(): Set<Call> {
    return this.connection.calls;
  }

  get framesInFlight(): number {
    return this.connection.framesInFlight;
  }

  set framesInFlight(frames: number) {
    this.connection.framesInFlight = frames;
  }

  get over(): boolean {
    return this.connection.over;
  }

  answer(text: string, more = false): void {
    this.parts.meter.sent.answer.add(Buffer.byteLength(text));
    if (more) this.#goLate();
    const key = this.#key;
    if (this.#state === 'early') {
      this.answers.push(text);
      if (key !== undefined) this.#serve();
      return;
    }
    const item = key === undefined ? { text } : { text, call: { key, attempt: this.attempt.attempt }, last: !more };
    if (this.#state === 'noting') this.#held.push(item);
    else if (this.#state === 'late') this.connection.later(item);
  }

  /** A frame without id may be answered in this turn, or not at all. */
  handled(): void {
    if (this.#key === undefined) queueMicrotask(() => this.#serve());
  }

  settled(): void {
    if (this.#state === 'early') queueMicrotask(() => this.#serve()); // the answer comes behind
  }

  #goLate(): void {
    if (this.#state !== 'early') return;
    this.#state = this.#key === undefined ? 'late' : 'noting';
    if (this.#key === undefined) this.#serve();
    else this.#note(this.#key);
  }

  /** The response may leave it out once it is certain that whoever goes on with the record knows of it. */
  #note(key: string): void {
    const { connection, attempt } = this;
    const noted = { attempt, stop: () => this.#stop() };
    connection.noted.set(key, noted);
    const note = connection.outgoing.step(async () => {
      const held = await this.parts.store.note(connection.id, key, attempt, PENDING_MS);
      if (!held) throw new RealtimeException('send_in_progress'); // by another attempt
    });
    note.then(
      () => {
        if (this.#state !== 'noting') return;
        this.#state = 'late';
        for (const item of this.#held.splice(0)) connection.later(item);
        this.#serve();
      },
      (error: unknown) => {
        if (connection.noted.get(key) === noted) connection.noted.delete(key);
        this.#fail(error);
        this.#stop();
      },
    );
  }

  /** Nothing that it answers counts any more. */
  #stop(): void {
    this.#state = 'stopped';
    this.#held = [];
    this.#serve();
    for (const call of this.connection.calls) if (call.id === this.frame.id) call.abandon();
  }
}

function refuse(id: FrameId | undefined, code: ErrorCode, message: string = ERRORS[code].message): string {
  return encodeError(id, { code, message });
}

/** The answers as they are stored; what is too large is told to whoever repeats the request. */
function storable(answers: string, frames: readonly unknown[]): string {
  if (Buffer.byteLength(answers) <= MAX_ANSWERS_BYTES) return answers;
  const ids = frames.flatMap((frame) => (frame as Partial<InboundFrame> | null)?.id ?? []);
  return `[${ids.map((id) => refuse(id, 'answers_too_large')).join(',')}]`;
}

function refusalOf(verdict: SendVerdict): RealtimeException {
  switch (verdict.verdict) {
    case 'sequence':
      return new RealtimeException('send_sequence', undefined, { expected: verdict.expected });
    case 'mismatch':
      return new RealtimeException('send_mismatch');
    case 'in_progress': {
      const refusal = new RealtimeException('send_in_progress');
      refusal.retryAfterMs = ASK_AGAIN_MS;
      return refusal;
    }
    default:
      return new RealtimeException('gone');
  }
}
