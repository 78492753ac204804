import type { ErrorBody } from '../protocol/errors.js';
import type { LostData, SubscribeData } from '../protocol/frames.js';
import type { Position } from '../protocol/position.js';
import { offsetOf } from './tab-messages.js';
import type { IncomingFrame } from './transport.js';

/** So many frames that wait for a session to catch up end its link. */
const MAX_HELD = 10_000;

/** What a channel needs of its exchange; `Session` is one tab. */
export interface SharedChannelHost<Session> {
  tell(sessions: readonly Session[], frame: IncomingFrame): void;
  /** Asks the hub for a part of the history. */
  readHistory(session: Session, since: Position, answer: (frame: IncomingFrame) => void): void;
  /** Ends the link of a session that catches up too slowly. */
  drop(session: Session): void;
  /** Nobody is in the channel any more. */
  onEmpty(): void;
}

/** A session in the channel. */
interface Seat {
  /** It has the publications up to here. */
  offset: number;
  /** What comes while it catches up. */
  held?: IncomingFrame[];
  /** Answers its `$subscribe`, until that is done. */
  answer?: (answer: Answer) => void;
}

type Answer = { data: object } | { error: unknown };

/** The place of a publication or a marker. */
interface Place {
  readonly offset: number;
  readonly tag: string;
}

/** A channel of a shared connection: one subscription, and the sessions that it is for. */
export class SharedChannel<Session> {
  readonly #seats = new Map<Session, Seat>();
  #subscription: SubscribeData | undefined;
  #position: Position = '';

  constructor(
    readonly name: string,
    private readonly host: SharedChannelHost<Session>,
  ) {}

  /** Where the subscription is. */
  get position(): Position {
    return this.#position;
  }

  get isLive(): boolean {
    return this.#subscription !== undefined;
  }

  /** The connection is subscribed, for a session that has asked first. */
  begin(session: Session, subscription: SubscribeData): void {
    this.#subscription = subscription;
    this.#position = subscription.position;
    this.#seats.set(session, { offset: 0 });
  }

  /** One more: it gets what it missed, up to where the channel is, and from there on what all get. */
  join(session: Session, since: Position | undefined, tell: (answer: Answer) => void): void {
    const { size, windowMs } = this.#subscription!;
    const position = this.#position;
    const answer = (data: object): void => tell({ data: { size, windowMs, ...data } });
    if (since === undefined || this.#seats.has(session)) answer({ position });
    else if (since === position) answer({ position, recovered: true, until: position });
    else {
      const seat: Seat = { offset: 0, held: [], answer: tell };
      this.#seats.set(session, seat);
      this.#catchUp(session, seat, since, (recovered) => {
        delete seat.answer;
        answer(recovered ? { position: since, recovered, until: position } : { position, recovered });
      });
      return;
    }
    if (!this.#seats.has(session)) this.#seats.set(session, { offset: 0 });
  }

  leave(session: Session): void {
    const seat = this.#seats.get(session);
    seat?.answer?.({ error: { code: 'rejected', message: 'The channel was left before it was entered' } });
    if (this.#seats.delete(session) && this.#seats.size === 0) this.host.onEmpty();
  }

  /** Takes a frame of the hub. */
  take(frame: IncomingFrame): void {
    if (frame.offset !== undefined) this.#position = after(this.#position, frame as unknown as Place);
    else if (frame.event === '$lost') this.#position = (frame.data as LostData).position;
    this.#give(frame, this.#seats);
  }

  /** Gives a session the publications after `since` up to where the channel is now, and then what came meanwhile. */
  #catchUp(session: Session, seat: Seat, since: Position, begin: (recovered: boolean) => void): void {
    const { name, host } = this;
    const until = this.#position;
    const end = offsetOf(until);
    const read = (from: Position): void => {
      host.readHistory(session, from, ({ data, error }) => {
        if (this.#seats.get(session) !== seat) return; // it has left
        if (error && seat.answer && (error as ErrorBody).code !== 'position_lost') {
          seat.answer({ error });
          delete seat.answer;
          this.leave(session);
          return;
        }
        if (seat.answer) begin(!error);
        else if (error)
          host.tell([session], { channel: name, event: '$lost', data: { position: until, reason: 'trimmed' } });
        const { publications } = (data ?? { publications: [] }) as { publications: Place[] };
        const missed = publications.filter(({ offset }) => offset <= end);
        for (const item of missed) host.tell([session], { channel: name, ...item });
        const last = missed.at(-1);
        if (last && last.offset < end) {
          read(after(from, last));
          return;
        }
        // It may be ahead of the others.
        seat.offset = error ? end : Math.max(end, offsetOf(since));
        const { held = [] } = seat;
        delete seat.held;
        for (const frame of held) this.#give(frame, [[session, seat]]);
      });
    };
    read(since);
  }

  #give(frame: IncomingFrame, seats: Iterable<[Session, Seat]>): void {
    const takers: Session[] = [];
    for (const [session, seat] of seats) {
      if (seat.held) {
        if (seat.held.push(frame) === MAX_HELD) this.host.drop(session);
        continue;
      }
      if (frame.event === '$lost') seat.offset = 0;
      if (((frame.offset as number | undefined) ?? Infinity) > seat.offset) takers.push(session);
    }
    if (takers.length > 0) this.host.tell(takers, frame);
  }
}

/** The position of a place in the log of another position. */
function after(position: Position, { offset, tag }: Place): Position {
  return [position.split('-')[0], offset, tag].join('-');
}
