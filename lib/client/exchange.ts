import type { ConnectedData, SubscribeData } from '../protocol/frames.js';
import type { Position } from '../protocol/position.js';
import type { ClientState, Connector, ConnectorHost, StateDetails } from './connector.js';
import { SharedChannel } from './shared-channel.js';
import { lockOf, type TabMessage } from './tab-messages.js';
import type { ClientLink, IncomingFrame } from './transport.js';

/** The ids of an exchange may be longer than those of its tabs. */
const ID_BYTES = 16;

type Answer = (frame: IncomingFrame) => void;

/** The link of one tab, by its name. */
interface Session {
  readonly link: string;
  readonly resumeId: unknown;
  readonly stop: AbortController;
  open: boolean;
}

/** A frame of a tab. */
interface TabFrame {
  readonly id?: unknown;
  readonly event?: string;
  readonly data?: unknown;
}

/** A channel that tabs are subscribed to. */
interface Entry {
  readonly channel: SharedChannel<Session>;
  /** What tabs ask for until the connection is subscribed. */
  readonly waiting: (() => void)[];
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
  readonly #entries = new Map<string, Entry>();
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
      position: (channel) => this.#entries.get(channel)?.channel.position,
      windowMs: () => Infinity,
      onState: (state, details) => this.#state(state, details),
      onConnected: (data) => (this.#connected = data),
      onOpen: ({ connection }, link) => this.#opened(connection, link),
      isBusy: () => this.#asked.size > 0,
      onFrame: (frame) => this.#frame(frame),
      onLost: () => {
        this.#link = undefined;
        this.#asked.clear();
        this.#entries.clear();
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
    for (const { channel } of this.#entries.values()) channel.leave(session);
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

  #tell(sessions: readonly Session[], frame: IncomingFrame): void {
    this.#tabs.postMessage({ to: sessions.map(({ link }) => link), frame });
  }

  /** Takes a frame of a tab. */
  #serve(session: Session, frame: TabFrame): void {
    const { id, event } = frame;
    if (event === '$subscribe') this.#subscribe(session, frame);
    else if (event === '$unsubscribe') this.#unsubscribe(session, frame);
    else if (event === '$cancel') this.#cancel(session, frame);
    else this.#pass(session, frame, id);
  }

  /** Gives a frame of a tab to the hub, and the tab the answer. */
  #pass(session: Session, frame: TabFrame, id: unknown): void {
    if (id === undefined) this.#link?.send(JSON.stringify(frame));
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
    this.#pass(session, { ...frame, data: { id } }, frame.id);
  }

  #subscribe(session: Session, frame: TabFrame): void {
    const { channel: name, since } = frame.data as { channel: string; since?: Position };
    const entry = this.#entries.get(name);
    if (!entry) this.#enter(session, frame, name);
    else if (!entry.channel.isLive) entry.waiting.push(() => this.#subscribe(session, frame));
    else if (this.#sessions.has(session.link)) {
      entry.channel.join(session, since, (answer) => this.#tell([session], { id: frame.id, ...answer }));
    }
  }

  /** The first one in a channel subscribes the connection; whoever else asks waits. */
  #enter(session: Session, frame: TabFrame, name: string): void {
    const channel = new SharedChannel<Session>(name, {
      tell: (...args) => this.#tell(...args),
      readHistory: (of, since, answer) => this.#ask(of, { event: '$history', data: { channel: name, since } }, answer),
      drop: ({ link }) => this.#end([link], { code: 1006, reason: 'Catches up too slowly' }),
      onEmpty: () => {
        if (this.#entries.get(name)?.channel !== channel) return;
        this.#entries.delete(name);
        this.#link?.send(JSON.stringify({ event: '$unsubscribe', data: { channel: name } }));
      },
    });
    const entry: Entry = { channel, waiting: [] };
    this.#entries.set(name, entry);
    this.#ask(session, frame, (answer) => {
      if (answer.error) this.#entries.delete(name);
      else channel.begin(session, answer.data as SubscribeData);
      this.#tell([session], { ...answer, id: frame.id });
      for (const next of entry.waiting.splice(0)) next();
      // It may have gone while it was subscribed.
      if (!this.#sessions.has(session.link)) channel.leave(session);
    });
  }

  #unsubscribe(session: Session, frame: TabFrame): void {
    const entry = this.#entries.get((frame.data as { channel: string }).channel);
    if (!entry) this.#pass(session, frame, frame.id);
    else if (!entry.channel.isLive) entry.waiting.push(() => this.#unsubscribe(session, frame));
    else {
      entry.channel.leave(session);
      this.#tell([session], { id: frame.id, data: null });
    }
  }

  /** Takes a frame of the hub. */
  #frame(frame: IncomingFrame): void {
    const { id, channel } = frame;
    if (id !== undefined) {
      const asked = this.#asked.get(id as number);
      if (!asked) return;
      if (frame.more !== true) this.#asked.delete(id as number);
      asked.answer(frame);
    } else if (channel === undefined) {
      const open = [...this.#sessions.values()].filter((session) => session.open);
      this.#tell(open, frame);
    } else {
      const of = this.#entries.get(channel as string)?.channel;
      if (of?.isLive) of.take(frame);
      if (frame.event === '$unsubscribed') this.#entries.delete(channel as string);
    }
  }
}
