import type { ErrorBody } from '../protocol/errors.js';
import type { ConnectedData, LostData, SubscribeData } from '../protocol/frames.js';
import type { Position } from '../protocol/position.js';
import type { ClientState, Connector, ConnectorHost, StateDetails } from './connector.js';
import { lockOf, offsetOf, type TabMessage } from './tab-messages.js';
import type { ClientLink, IncomingFrame } from './transport.js';

/** The ids of an exchange may be longer than those of its tabs. */
const ID_BYTES = 16;
/** So many frames that wait for a tab to catch up end its link. */
const MAX_HELD = 10_000;

type Answer = (frame: IncomingFrame) => void;

/** The link of one tab, by its name. */
interface Session {
  readonly link: string;
  readonly resumeId: unknown;
  readonly stop: AbortController;
  open: boolean;
}

/** A session in a channel. */
interface Seat {
  /** It has the publications up to here. */
  offset: number;
  /** Frames for it while it catches up. */
  held?: IncomingFrame[];
  /** Answers its `$subscribe`, where that was not done yet. */
  refuse?: () => void;
}

/** A channel that tabs are subscribed to, with the one subscription of the connection. */
interface SharedChannel {
  readonly name: string;
  /** Where the subscription is. */
  position: Position;
  /** Of the subscription; until it is there, what tabs ask for waits. */
  answer?: SubscribeData;
  readonly waiting: (() => void)[];
  readonly seats: Map<Session, Seat>;
}

/** The place of a publication or a marker in its channel. */
interface Place {
  readonly offset: number;
  readonly tag: string;
}

/** A frame of a tab. */
interface TabFrame {
  readonly id?: unknown;
  readonly event?: string;
  readonly data?: unknown;
}

/**
 * The connection of all tabs, in the tab that holds it: to the hub one peer, to the tabs a hub. Requests keep their tab;
 * a channel is subscribed to once; who comes later gets what it missed from the history. What is sent to no channel, and
 * answers no request, goes to all tabs.
 */
export class Exchange {
  readonly #tabs: BroadcastChannel;
  readonly #locks: LockManager;
  readonly #connector: Connector;
  readonly #sessions = new Map<string, Session>();
  readonly #channels = new Map<string, SharedChannel>();
  readonly #asked = new Map<number, { session: Session; id: unknown; answer: Answer }>();
  #lastId = 0;
  #link: ClientLink | undefined;
  #connected: ConnectedData | undefined;
  #connection = '';

  constructor(key: string, connect: (host: ConnectorHost) => Connector, locks: LockManager) {
    this.#locks = locks;
    this.#tabs = new BroadcastChannel(key);
    this.#tabs.onmessage = ({ data }: MessageEvent<TabMessage>) => {
      if ('from' in data) this.#take(data.from, data.text);
    };
    this.#connector = connect({
      client: crypto.randomUUID(),
      resumeChannels: () => [],
      position: (channel) => this.#channels.get(channel)?.position,
      windowMs: () => Infinity,
      onState: (state, details) => this.#state(state, details),
      onConnected: (data) => (this.#connected = data),
      onOpen: ({ connection }, link) => this.#opened(connection, link),
      isBusy: () => this.#asked.size > 0,
      onFrame: (frame) => this.#frame(frame),
      onLost: () => {
        this.#link = undefined;
        this.#asked.clear();
        this.#channels.clear();
      },
      // The clients of the tabs tell of it themselves: how their links end, and what becomes of their tokens.
      onError: () => {},
      onClosed: () => {},
    });
    this.#tabs.postMessage({ holder: 'new' });
    this.#connector.open();
  }

  /** Ends the connection. Links are told by the tab that holds the next one. */
  close(): void {
    for (const { stop } of this.#sessions.values()) stop.abort();
    this.#sessions.clear();
    this.#connector.close();
    this.#tabs.close();
  }

  #take(link: string, text: string | undefined): void {
    const session = this.#sessions.get(link);
    const frame = text === undefined ? undefined : (JSON.parse(text) as TabFrame);
    if (!session && frame?.event === '$resume') this.#accept(link, frame);
    else if (!session) this.#end([link], { code: 1006, reason: 'Not known here' });
    else if (text === undefined || frame?.event === '$resume') this.#tabs.postMessage({ to: [link] });
    else if (frame && session.open) this.#serve(session, frame);
  }

  #accept(link: string, { id }: TabFrame): void {
    const stop = new AbortController();
    const session: Session = { link, resumeId: id, stop, open: false };
    this.#sessions.set(link, session);
    const { signal } = stop;
    this.#locks.request(lockOf(link), { signal }, () => this.#gone(session)).catch(() => {});
    this.#tabs.postMessage({ to: [link] });
    this.#connector.open();
    if (this.#link) this.#begin(session);
  }

  #gone(session: Session): void {
    this.#sessions.delete(session.link);
    for (const [id, { session: of }] of this.#asked) {
      if (of === session) this.#link?.send(JSON.stringify({ event: '$cancel', data: { id } }));
    }
    for (const channel of this.#channels.values()) this.#stand(session, channel);
  }

  #opened(connection: string, link: ClientLink): void {
    this.#link = link;
    this.#connection = connection;
    for (const session of this.#sessions.values()) this.#begin(session);
    this.#tabs.postMessage({ holder: 'open' });
  }

  #begin(session: Session): void {
    session.open = true;
    const { maxFrameBytes, ...connected } = this.#connected!;
    // Signs of life are between the tabs.
    const data = { ...connected, heartbeatMs: 0, maxFrameBytes: maxFrameBytes && maxFrameBytes - ID_BYTES };
    this.#tell([session], { event: '$connected', data });
    this.#tell([session], { id: session.resumeId, data: { connection: this.#connection, channels: {} } });
  }

  #state(state: ClientState, { code = 1006, reason = '' }: StateDetails): void {
    if (state === 'open') return;
    const isOver = state === 'closed';
    const ended = [...this.#sessions.values()].filter(({ open }) => open || isOver);
    for (const { link, stop } of ended) {
      stop.abort();
      this.#sessions.delete(link);
    }
    const links = ended.map(({ link }) => link);
    if (links.length > 0) this.#end(links, { code, reason, reconnect: !isOver });
  }

  #end(to: readonly string[], end: { code: number; reason: string; reconnect?: boolean }): void {
    this.#tabs.postMessage({ to, end });
  }

  #tell(sessions: Iterable<Session>, frame: IncomingFrame): void {
    this.#tabs.postMessage({ to: Array.from(sessions, ({ link }) => link), frame });
  }

  /** Takes a frame of a tab. */
  #serve(session: Session, frame: TabFrame): void {
    const { id, event } = frame;
    if (event === '$subscribe') this.#subscribe(session, frame);
    else if (event === '$unsubscribe') this.#unsubscribe(session, frame);
    else if (event === '$cancel') this.#cancel(session, frame);
    else if (id === undefined) this.#link?.send(JSON.stringify(frame));
    else this.#ask(session, frame, (answer) => this.#tell([session], { ...answer, id }));
  }

  #ask(session: Session, frame: TabFrame, answer: Answer): void {
    const id = ++this.#lastId;
    this.#asked.set(id, { session, id: frame.id, answer });
    this.#link?.send(JSON.stringify({ ...frame, id }));
  }

  #cancel(session: Session, frame: TabFrame): void {
    const theirs = (frame.data as { id: unknown }).id;
    const [id = 0] = [...this.#asked].find(([, asked]) => asked.session === session && asked.id === theirs) ?? [];
    const cancel = { ...frame, data: { id } };
    if (frame.id === undefined) this.#link?.send(JSON.stringify(cancel));
    else this.#ask(session, cancel, (answer) => this.#tell([session], { ...answer, id: frame.id }));
  }

  #subscribe(session: Session, frame: TabFrame): void {
    const { channel: name, since } = frame.data as { channel: string; since?: Position };
    const channel = this.#channels.get(name);
    if (channel?.answer) this.#join(session, frame, channel, since);
    else if (channel) channel.waiting.push(() => this.#subscribe(session, frame));
    else this.#enter(session, frame, name);
  }

  /** The first one in a channel. */
  #enter(session: Session, frame: TabFrame, name: string): void {
    const channel: SharedChannel = { name, position: '', waiting: [], seats: new Map() };
    this.#channels.set(name, channel);
    this.#ask(session, frame, (answer) => {
      if (answer.error) this.#channels.delete(name);
      else {
        channel.answer = answer.data as SubscribeData;
        channel.position = channel.answer.position;
        channel.seats.set(session, { offset: 0 });
        // It may have gone while it was subscribed.
        if (!this.#sessions.has(session.link)) channel.seats.delete(session);
      }
      this.#tell([session], { ...answer, id: frame.id });
      for (const next of channel.waiting.splice(0)) next();
      this.#leaveEmpty(channel);
    });
  }

  /** A further one: it gets what it missed, up to where the channel is, and from there on what all get. */
  #join(session: Session, frame: TabFrame, channel: SharedChannel, since: Position | undefined): void {
    if (!this.#sessions.has(session.link)) return;
    const { size, windowMs } = channel.answer!;
    const { position } = channel;
    const answer = (data: object) => this.#tell([session], { id: frame.id, data: { size, windowMs, ...data } });
    const seat: Seat = channel.seats.get(session) ?? { offset: 0 };
    if (since === undefined || since === position || channel.seats.has(session)) {
      channel.seats.set(session, seat);
      answer(since === undefined ? { position } : { position, recovered: true, until: position });
      return;
    }
    seat.held = [];
    seat.refuse = () => {
      const error = { code: 'rejected', message: 'The channel was left before it was entered' };
      this.#tell([session], { id: frame.id, error });
    };
    channel.seats.set(session, seat);
    const end = offsetOf(position);
    const read = (from: Position) => {
      const data = { channel: channel.name, since: from };
      this.#ask(session, { event: '$history', data }, ({ data, error }) => {
        if (channel.seats.get(session) !== seat) return;
        const code = (error as ErrorBody | undefined)?.code;
        if (code && seat.refuse && code !== 'position_lost') {
          channel.seats.delete(session);
          this.#tell([session], { id: frame.id, error });
          this.#leaveEmpty(channel);
          return;
        }
        const { publications } = (data ?? { publications: [] }) as { publications: Place[] };
        if (code && !seat.refuse) {
          this.#tell([session], { channel: channel.name, event: '$lost', data: { position, reason: 'trimmed' } });
        } else if (seat.refuse) {
          answer(code ? { position, recovered: false } : { position: since, recovered: true, until: position });
          delete seat.refuse;
        }
        const missed = publications.filter(({ offset }) => offset <= end);
        for (const item of missed) this.#tell([session], { channel: channel.name, ...item });
        const last = missed.at(-1);
        if (last && last.offset < end) read(after(from, last));
        else {
          seat.offset = code ? end : Math.max(end, offsetOf(since));
          const { held = [] } = seat;
          delete seat.held;
          for (const next of held) this.#tell(this.#takers(next, [[session, seat]]), next);
        }
      });
    };
    read(since);
  }

  #unsubscribe(session: Session, frame: TabFrame): void {
    const channel = this.#channels.get((frame.data as { channel: string }).channel);
    if (channel && !channel.answer) {
      channel.waiting.push(() => this.#unsubscribe(session, frame));
      return;
    }
    if (channel) this.#stand(session, channel);
    // Behind what it was told before: the hub answers in order, and so does this.
    if (frame.id !== undefined) this.#tell([session], { id: frame.id, data: null });
  }

  /** A session leaves a channel. */
  #stand(session: Session, channel: SharedChannel): void {
    channel.seats.get(session)?.refuse?.();
    if (channel.seats.delete(session)) this.#leaveEmpty(channel);
  }

  #leaveEmpty(channel: SharedChannel): void {
    if (channel.seats.size > 0 || !channel.answer || this.#channels.get(channel.name) !== channel) return;
    this.#channels.delete(channel.name);
    this.#link?.send(JSON.stringify({ event: '$unsubscribe', data: { channel: channel.name } }));
  }

  /** Takes a frame of the hub. */
  #frame(frame: IncomingFrame): void {
    const { id, channel } = frame;
    if (id !== undefined) {
      const asked = this.#asked.get(id as number);
      if (!asked) return;
      if (frame.more !== true) this.#asked.delete(id as number);
      asked.answer(frame);
    } else if (channel === undefined)
      this.#tell(
        [...this.#sessions.values()].filter(({ open }) => open),
        frame,
      );
    else {
      const of = this.#channels.get(channel as string);
      if (of?.answer) this.#channelFrame(of, frame);
    }
  }

  #channelFrame(channel: SharedChannel, frame: IncomingFrame): void {
    const { seats, name } = channel;
    const { event, offset } = frame as { event?: string; offset?: number };
    if (offset !== undefined) channel.position = after(channel.position, frame as unknown as Place);
    else if (event === '$lost') channel.position = (frame.data as LostData).position;
    const takers = this.#takers(frame, seats);
    if (takers.length > 0) this.#tell(takers, frame);
    if (event === '$unsubscribed') this.#channels.delete(name);
  }

  /** Which sessions get a frame now; for others it is held, or they have it. */
  #takers(frame: IncomingFrame, seats: Iterable<[Session, Seat]>): Session[] {
    const takers: Session[] = [];
    for (const [session, seat] of seats) {
      if (seat.held) {
        if (seat.held.push(frame) === MAX_HELD)
          this.#end([session.link], { code: 1006, reason: 'Catches up too slowly' });
        continue;
      }
      if (frame.event === '$lost') seat.offset = 0;
      if (((frame.offset as number | undefined) ?? Infinity) > seat.offset) takers.push(session);
    }
    return takers;
  }
}

/** The position of a place in the same log as another position. */
function after(position: Position, { offset, tag }: Place): Position {
  return [position.split('-')[0], offset, tag].join('-');
}
