import type { ErrorBody } from '../../lib/protocol/errors.js';
import type { LostData, PresenceAnswer, PresenceData, SubscribeData } from '../../lib/protocol/frames.js';
import type { Position } from '../../lib/protocol/position.js';
import type { Fleet, ArrivalOptions } from './fleet.js';
import { Follower, Violation } from './follower.js';
import type { ModelLog } from './model-log.js';
import type { LinkPeer, ReceivedFrame, TestLink } from './test-link.js';

interface Request {
  readonly event: string;
  readonly link: TestLink;
  readonly onAnswer: (data: any) => void; // any: each event has an answer of its own shape
  readonly onError: (error: ErrorBody) => void;
}

/** What all peers of a run share. */
export interface PeerWorld {
  readonly fleet: Fleet;
  readonly model: ModelLog;
  readonly policies: Readonly<Record<string, 'disconnect' | 'dropOldest' | 'conflate'>>;
  wipes: number;
}

/** A peer's idea of who is in a channel. */
export interface PresenceView {
  rev: number;
  readonly members: Map<string, unknown>;
}

/**
 * A peer that speaks the wire as the client library does: `$resume` first, positions kept over links, gaps looked for.
 * Everything it is told is compared with the model log.
 */
export class ModelPeer implements LinkPeer {
  readonly channels = new Map<string, Follower>();
  readonly views = new Map<string, PresenceView>();
  /** Channels that it means to be in. */
  readonly wanted = new Set<string>();
  readonly closes: { code: number; reason: string }[] = [];
  /** Publications that were acknowledged. */
  readonly acknowledged: { channel: string; n: number; key: string | undefined; position: Position }[] = [];
  link: TestLink | undefined;
  /** Whether it ever read slowly. */
  slow = false;
  #nextId = 1;
  /** The latest `$unsubscribe` of each channel that was answered, by its id. */
  readonly #leaves = new Map<string, number>();
  readonly #requests = new Map<number, Request>();

  constructor(
    readonly client: string,
    private readonly world: PeerWorld,
  ) {}

  /** Requests on the present link that have no answer yet. */
  get unanswered(): string[] {
    return [...this.#requests.values()].filter(({ link }) => link === this.link).map(({ event }) => event);
  }

  follower(channel: string): Follower {
    let follower = this.channels.get(channel);
    if (follower === undefined) {
      const mayDrop = (): boolean => this.slow && this.world.policies[channel] !== 'disconnect';
      follower = new Follower(
        this.world.model,
        channel,
        this.client,
        () => ({ client: this.client, mayDrop: mayDrop() }),
        () => this.world.wipes,
      );
      this.channels.set(channel, follower);
    }
    return follower;
  }

  /** Connects to a node, and asks for all its channels in one `$resume`. */
  connect(node: number, arrival: ArrivalOptions = {}): void {
    this.cut();
    this.link = this.world.fleet.join(node, this, arrival);
    const channels: Record<string, Position | null> = {};
    for (const channel of this.wanted) channels[channel] = this.follower(channel).position ?? null;
    const resume = this.#nextId;
    this.#request('$resume', { client: this.client, channels }, (answer: { channels: Record<string, any> }) => {
      for (const [channel, since] of Object.entries(channels)) {
        const told = answer.channels[channel] as SubscribeData | { error: ErrorBody } | undefined;
        if (told === undefined) throw new Violation(`W5 ${this.client} gets no answer for ${channel}`);
        if ('error' in told) continue;
        if (resume < (this.#leaves.get(channel) ?? 0)) {
          throw new Violation(`W2 ${this.client} is in ${channel} after it was told that it had left`);
        }
        this.follower(channel).answered(told, since ?? undefined);
      }
    });
  }

  /** Loses its link. */
  cut(options?: { halfOpen?: boolean }): void {
    const { link } = this;
    if (link === undefined) return;
    this.#left(link);
    link.cut(options);
  }

  subscribe(channel: string): void {
    this.wanted.add(channel);
    const since = this.follower(channel).position;
    this.#request('$subscribe', { channel, ...(since === undefined ? {} : { since }) }, (answer: SubscribeData) => {
      this.follower(channel).answered(answer, since);
    });
  }

  unsubscribe(channel: string): void {
    this.wanted.delete(channel);
    const id = this.#nextId;
    this.#request('$unsubscribe', { channel }, () => {
      this.#leaves.set(channel, id);
      this.follower(channel).ended();
      this.views.delete(channel);
    });
  }

  publish(channel: string, data: { n: number; key?: string }, options: { key?: string; echo?: false } = {}): void {
    this.#request(
      '$publish',
      { channel, event: 'message', data, ...options },
      ({ position }: { position: Position }) => {
        this.acknowledged.push({ channel, n: data.n, key: options.key, position });
      },
    );
  }

  askPresence(channel: string): void {
    this.#request('$presence', { channel }, ({ rev, users }: PresenceAnswer) => {
      if (!this.follower(channel).on || (this.views.get(channel)?.rev ?? -1) > rev) return;
      this.views.set(channel, { rev, members: new Map(users.map(({ id, info }) => [id, info])) });
      this.onView(channel);
    });
  }

  /** Called after each change of a view. */
  onView: (channel: string) => void = () => undefined;

  stall(): void {
    this.slow = true;
    this.link?.stall();
  }

  receive(frame: ReceivedFrame): void {
    const { id, event, channel } = frame as { id?: number; event?: string; channel?: string };
    if (id !== undefined) this.#answered(id, frame);
    else if (channel !== undefined) this.#channelFrame(channel, frame);
    else if (event === '$ping') this.link?.send({ event: '$pong' });
    else if (event !== '$connected' && event !== '$disconnect') {
      throw new Violation(`${this.client} gets ${JSON.stringify(frame)}`);
    }
  }

  closed(code: number, reason: string): void {
    this.closes.push({ code, reason });
    if (this.link !== undefined) this.#left(this.link);
  }

  #left(link: TestLink): void {
    this.link = undefined;
    for (const [id, request] of this.#requests) if (request.link === link) this.#requests.delete(id);
    for (const follower of this.channels.values()) follower.ended();
    this.views.clear();
    this.world.fleet.forget(link);
  }

  #request(event: string, data: unknown, onAnswer: Request['onAnswer'], onError: Request['onError'] = () => undefined) {
    if (this.link?.open !== true) return;
    const id = this.#nextId++;
    this.#requests.set(id, { event, link: this.link, onAnswer, onError });
    this.link.send({ id, event, data });
  }

  #answered(id: number, frame: ReceivedFrame): void {
    const request = this.#requests.get(id);
    if (request === undefined) throw new Violation(`P9 ${this.client} gets a second answer ${JSON.stringify(frame)}`);
    this.#requests.delete(id);
    if (frame.error !== undefined) request.onError(frame.error as ErrorBody);
    else request.onAnswer(frame.data);
  }

  #channelFrame(channel: string, frame: ReceivedFrame): void {
    const follower = this.follower(channel);
    const { event, data, offset, tag, skipped } = frame;
    if (skipped !== undefined) follower.marker(skipped as number, offset as number, tag as string);
    else if (offset !== undefined) follower.item(offset as number, tag as string, data as { n: number });
    else if (event === '$lost') follower.lost(data as LostData);
    else if (event === '$unsubscribed') follower.ended();
    else if (event === '$presence') this.#presence(channel, data as PresenceData);
    else throw new Violation(`${this.client} gets ${JSON.stringify(frame)}`);
  }

  #presence(channel: string, { prev, rev, joined, left }: PresenceData): void {
    if (!this.follower(channel).on)
      throw new Violation(`D3.4 ${this.client} gets $presence of ${channel}, and left it`);
    const view = this.views.get(channel);
    if (view !== undefined && rev <= view.rev) return;
    if (view?.rev !== prev || joined === undefined || left === undefined) {
      this.askPresence(channel);
      return;
    }
    for (const id of left) view.members.delete(id);
    for (const { id, info } of joined) view.members.set(id, info);
    view.rev = rev;
    this.onView(channel);
  }
}
