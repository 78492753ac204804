import type { DisconnectData, SubscribeData } from '../../../lib/protocol/frames.js';
import type { TestNode } from '../../unit/transports/support/node.js';

/** A frame as a peer reads it. */
export type Frame = any;

/** What a peer wants when it comes. */
export interface Wish {
  /** Where it was in its channels; `null`: live. */
  channels?: Record<string, string | null>;
  /** Its own name. */
  client?: string;
  token?: string;
  /** A token that comes in a frame, where the wire waits for it. */
  laterToken?: string;
  headers?: Record<string, string>;
}

/** How a wire refuses a peer. */
export interface Refusal {
  /** The status; 101 where the wire is opened, and `$disconnect` refuses. */
  readonly status: number;
  readonly code: string;
  readonly details?: unknown;
  readonly retryAfter?: string | undefined;
  /** The close code, where there is one. */
  readonly close?: number;
}

/** How a wire was ended by the hub. */
export interface End {
  readonly told: DisconnectData | undefined;
  /** What came besides: see {@link Binding.end}. */
  readonly wire: unknown;
}

/** Where wires differ by what they are. Each case of the suite asserts what is told here. */
export interface Binding {
  /** How frames of a peer travel. `none`: there is no way up. */
  readonly up: 'frames' | 'requests' | 'none';
  /** What becomes of a channel that is refused as a peer comes: it alone is, or the peer is. */
  readonly refusedChannel: 'alone' | 'the peer';
  /** How a peer learns that a hook of connections refused it. */
  readonly refusedByHook: { readonly status: number; readonly close?: number };
  /** What becomes of a peer without credentials where they are needed. */
  readonly withoutToken: 'awaited' | 401;
  /** What a peer sees of the heartbeat: a question that it must answer, a comment, or nothing but empty answers. */
  readonly signOfLife: 'question' | 'comment' | 'empty answer';
  /** What of a peer that does not read is bounded: what waits for its link, or what is for it alone. */
  readonly slowBy: 'publications' | 'inbox';
  /** Where what is published in a channel without history reaches its peers: always, or while a request of theirs waits. */
  readonly withoutHistory: 'always' | 'while it waits';
  /** How the hub sees a link that its peer leaves in order: by a close code, or only by its silence. */
  readonly goodbye: { readonly code: number; readonly reason: string } | 'silence';
  /** What becomes of a connection whose node goes away. */
  readonly drain: 'the connection ends' | 'the connection goes on elsewhere';
  /** What comes of the wire itself when a connection is ended so. */
  end(told: DisconnectData): unknown;
}

/** A transport under test: how a peer speaks it, on the wire. */
export interface TransportUnderTest {
  readonly title: string;
  /** What the connection says of its transport. */
  readonly name: 'websocket' | 'sse' | 'long-polling';
  readonly binding: Binding;
  /** Comes to a node. Rejects where it is refused. */
  open(node: TestNode, wish?: Wish): Promise<WirePeer>;
  /** Comes to a node that refuses it. */
  refused(node: TestNode, wish?: Wish): Promise<Refusal>;
}

/** A peer, as a test drives it: keeps answers apart from everything else, as between the two there is no order. */
export abstract class WirePeer {
  /** The first frame, without what is of the channels. */
  hello: Frame;
  /** What was answered for each of its channels. */
  channels: Record<string, SubscribeData & { error?: { code: string } }> = {};
  /** Signs of life that came: questions, comments, empty answers. */
  signs = 0;
  /** Whether questions are left without an answer. */
  silent = false;
  readonly ended: Promise<End>;
  protected told: DisconnectData | undefined;
  protected over!: (end: End) => void;
  readonly #frames: Frame[] = [];
  readonly #waiting: ((frame: Frame) => void)[] = [];
  readonly #exchanges = new Map<number | string, { frames: Frame[]; done: (frames: Frame[]) => void }>();
  #woken: () => void = () => undefined;
  #lastId = 0;

  constructor() {
    this.ended = new Promise((resolve) => (this.over = resolve));
  }

  get connection(): string {
    return this.hello.data.connection as string;
  }

  /** The next frame that is no answer, and no sign of life. */
  next(): Promise<Frame> {
    const frame = this.#frames.shift();
    return frame === undefined ? new Promise((resolve) => this.#waiting.push(resolve)) : Promise.resolve(frame);
  }

  async take(count: number): Promise<Frame[]> {
    const frames: Frame[] = [];
    while (frames.length < count) frames.push(await this.next());
    return frames;
  }

  /** Sends a request; all that is answered to it, the final answer last. */
  exchange(event: string, data?: unknown, id: number | string = ++this.#lastId): Promise<Frame[]> {
    const answered = new Promise<Frame[]>((done) => this.#exchanges.set(id, { frames: [], done }));
    this.send({ id, event, data });
    return answered;
  }

  /** Sends a request; the final answer. */
  async ask(event: string, data?: unknown, id?: number | string): Promise<Frame> {
    return (await this.exchange(event, data, id)).at(-1);
  }

  /** What was answered so far to a request whose final answer has not come. */
  answersSoFar(id: number | string): readonly Frame[] {
    return this.#exchanges.get(id)?.frames ?? [];
  }

  /** Waits until there are so many signs of life. */
  async alive(signs: number): Promise<void> {
    while (this.signs < signs) await new Promise<void>((resolve) => (this.#woken = resolve));
  }

  /** Sends a frame. */
  abstract send(frame: object): void;
  /** Reads nothing more, until it resumes. */
  abstract pause(): void;
  abstract resume(): void;
  /** Loses its link. */
  abstract break(): void;
  /** Leaves in order, where the wire has a word for it. */
  abstract leave(): void;

  /** Resolves when the hub can tell it something, which over a link is always so. */
  async listens(_node: TestNode): Promise<void> {}

  /** Goes on at another node, where one connection has several links. */
  moveTo(_node: TestNode): void {
    throw new Error('A link stays at its node');
  }

  /** The position after a publication or a marker of a channel. */
  after({ channel, offset, tag }: Frame): string {
    return `${this.channels[channel as string]!.position.split('-', 1)[0]}-${offset}-${tag}`;
  }

  protected sign(): void {
    this.signs += 1;
    this.#woken();
  }

  protected received(frame: Frame): void {
    const exchange = frame.id === undefined ? undefined : this.#exchanges.get(frame.id);
    if (exchange !== undefined) {
      exchange.frames.push(frame);
      if (frame.more === true) return;
      this.#exchanges.delete(frame.id);
      exchange.done(exchange.frames);
    } else if (frame.event === '$disconnect') {
      this.told = frame.data;
    } else {
      const next = this.#waiting.shift();
      if (next === undefined) this.#frames.push(frame);
      else next(frame);
    }
  }
}
