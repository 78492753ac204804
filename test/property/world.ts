import type { ChannelOptions } from '../../lib/hub/definition.js';
import type { CallName, CallFate, AnnouncementFate } from '../../lib/testing/faulty-broker.js';
import { makeTag } from '../../lib/protocol/position.js';
import { Fleet, type FleetOptions } from '../support/fleet.js';
import { Violation } from '../support/follower.js';
import { ModelLog } from '../support/model-log.js';
import { ModelPeer, type PeerWorld } from '../support/model-peer.js';
import { ModelReader } from '../support/model-reader.js';

export const SIZE = 6;
export const TTL_MS = 20_000;
export const CHECK_MS = 10_000;
const READ_RETRY_MS = 500;
const history = { size: SIZE, ttlMs: TTL_MS };

/** The channels of a run: each with its policy. */
export const CHANNELS: Record<string, ChannelOptions> = {
  log: { history, publish: true },
  live: { history: false, publish: true },
  drop: { history, publish: true, slowConsumer: 'dropOldest' },
  fold: { history, publish: true, slowConsumer: { conflateBy: ({ offset }) => String(offset % 2) } },
};

/** Let happen after a step: nothing, some microtasks, the end of a turn, or all. */
export type After = 'nothing' | 'microtasks' | 'turn' | 'all';

export type Step =
  | { op: 'publish'; node: number; channel: string; count: number; large: boolean; exclude?: number; key?: string }
  | { op: 'peerPublish'; peer: number; channel: string; key?: string; echo: boolean }
  | { op: 'announce'; node: number; fates: AnnouncementFate[] }
  | { op: 'release'; node: number; count: number }
  | { op: 'calls'; node: number; call: CallName; fates: CallFate[] }
  | { op: 'answer'; node: number }
  | { op: 'pause' | 'resume'; node: number }
  | { op: 'trim' | 'expire' | 'wipe'; channel: string }
  | { op: 'diverge'; channel: string; back: number; regrow: number }
  | { op: 'unseen'; channel: string; count: number }
  | { op: 'read'; reader: number; again: boolean }
  | { op: 'subscribe' | 'unsubscribe'; peer: number; channel: string }
  | { op: 'connect'; peer: number; node: number }
  | { op: 'cut'; peer: number; halfOpen: boolean }
  | { op: 'stall' | 'flow'; peer: number }
  | { op: 'drip'; peer: number; bytes: number }
  | { op: 'pass'; ms: number };

export interface WorldOptions extends Omit<FleetOptions, 'channels'> {
  peers: number;
  /** Names of {@link CHANNELS}. */
  channels: readonly string[];
  largeBytes: number;
}

/** Two nodes, some peers and a reader on each node, and the model log that they are compared with. */
export class World implements PeerWorld {
  readonly policies: Record<string, 'disconnect' | 'dropOldest' | 'conflate'> = {};
  readonly peers: ModelPeer[];
  readonly readers: ModelReader[] = [];
  wipes = 0;
  /** How often publications that were acknowledged may have been lost. */
  losses = 0;
  #n = 0;
  readonly #published: Promise<unknown>[] = [];
  readonly #acknowledged: { channel: string; n: number; key: string | undefined; position: string }[] = [];
  readonly #large: string;

  private constructor(
    readonly fleet: Fleet,
    readonly model: ModelLog,
    private readonly options: WorldOptions,
  ) {
    for (const channel of options.channels) {
      const { slowConsumer = 'disconnect' } = CHANNELS[channel]!;
      this.policies[channel] = typeof slowConsumer === 'string' ? slowConsumer : 'conflate';
    }
    this.#large = 'x'.repeat(options.largeBytes);
    this.peers = Array.from({ length: options.peers }, (_, i) => new ModelPeer(`peer${i}`, this));
  }

  static async open(options: WorldOptions): Promise<World> {
    const { peers: _peers, largeBytes: _largeBytes, channels: names, ...rest } = options;
    const channels = Object.fromEntries(names.map((name) => [name, CHANNELS[name]!]));
    const fleet = await Fleet.open({ checkIntervalMs: CHECK_MS, ...rest, channels });
    const world = new World(fleet, await ModelLog.open(fleet.memory, names), options);
    return world;
  }

  /** The peer was in a channel once, and knows its position after some publications. */
  know(peer: ModelPeer, channel: string, count: number | null): void {
    if (count === null) return;
    const points = [...this.model.history(channel, this.model.top(channel))].reverse();
    const position = count === 0 ? points[0]?.[1].prev : points[count - 1]?.[0];
    if (position !== undefined) peer.follower(channel).position = position;
  }

  /** Starts a reader of the process on each node. */
  read(channel: string): void {
    this.fleet.hubs.forEach((_, node) => this.readers.push(new ModelReader(`reader${node}`, this, node, channel)));
  }

  async step(step: Step, after: After): Promise<void> {
    this.#apply(step);
    switch (after) {
      case 'nothing':
        return;
      case 'microtasks':
        for (let i = 0; i < 3; i++) await Promise.resolve();
        return;
      case 'turn':
        this.fleet.clock.runTurn();
        this.fleet.deliver();
        return;
      case 'all':
        await this.fleet.settle();
        return;
      default:
        after satisfies never;
    }
  }

  #apply(step: Step): void {
    const { fleet } = this;
    switch (step.op) {
      case 'publish': {
        const { node, channel, count, large, exclude, key } = step;
        for (let i = 0; i < count; i++) {
          const n = ++this.#n;
          const data = { n, ...(key === undefined ? {} : { key }), ...(large ? { pad: this.#large } : {}) };
          const options = {
            ...(exclude === undefined ? {} : { exclude: `peer${exclude}` }),
            ...(key === undefined ? {} : { key }),
          };
          const published = fleet.publish(node, channel, 'message', data, options).then(
            (position) => this.#acknowledged.push({ channel, n, key, position }),
            () => undefined,
          );
          this.#published.push(published);
        }
        return;
      }
      case 'peerPublish': {
        const { channel, key, echo } = step;
        const n = ++this.#n;
        // The hub scopes the keys of anonymous peers; the model tells them apart from the application's.
        const data = { n, ...(key === undefined ? {} : { key: `a:${key}` }) };
        const options = { ...(key === undefined ? {} : { key }), ...(echo ? {} : { echo: false as const }) };
        this.peers[step.peer]!.publish(channel, data, options);
        return;
      }
      case 'announce':
        fleet.faults(step.node).announcements('envelope', ...step.fates);
        return;
      case 'release':
        fleet.faults(step.node).release(step.count);
        return;
      case 'calls':
        fleet.faults(step.node).calls(step.call, ...step.fates);
        return;
      case 'answer':
        fleet.faults(step.node).answer();
        return;
      case 'pause':
        fleet.faults(step.node).pause();
        return;
      case 'resume':
        fleet.faults(step.node).resume();
        return;
      case 'trim':
        void fleet.broker.trim(step.channel);
        return;
      case 'expire':
        fleet.clock.advance(TTL_MS);
        return;
      case 'wipe':
        this.wipes++;
        this.losses++;
        void fleet.broker.wipe();
        return;
      case 'diverge':
        this.#diverge(step.channel, step.back);
        this.unseen(step.channel, step.regrow);
        return;
      case 'unseen':
        this.unseen(step.channel, step.count);
        return;
      case 'read': {
        const reader = this.readers[step.reader]!;
        reader.stop();
        reader.start(step.again ? reader.follower.position : undefined);
        return;
      }
      case 'subscribe':
        this.peers[step.peer]!.subscribe(step.channel);
        return;
      case 'unsubscribe':
        this.peers[step.peer]!.unsubscribe(step.channel);
        return;
      case 'connect':
        this.peers[step.peer]!.connect(step.node);
        return;
      case 'cut':
        this.peers[step.peer]!.cut({ halfOpen: step.halfOpen });
        return;
      case 'stall':
        this.peers[step.peer]!.stall();
        return;
      case 'flow':
        this.peers[step.peer]!.link?.flow();
        return;
      case 'drip':
        this.peers[step.peer]!.link?.read(step.bytes);
        return;
      case 'pass':
        fleet.clock.advance(step.ms);
        return;
      default:
        step satisfies never;
    }
  }

  /** Publishes where no node sees it: every announcement is lost. */
  unseen(channel: string, count: number): void {
    if (count === 0) return;
    const { size, ttlMs } = history === CHANNELS[channel]!.history ? history : { size: 0, ttlMs: 0 };
    const retention = { size, ttlMs, metaTtlMs: 86_400_000 };
    const items = Array.from({ length: count }, () => ({ event: 'message', data: JSON.stringify({ n: ++this.#n }) }));
    this.fleet.memory.logs.use(channel, (log, now) => {
      const { envelope } = log.append(retention, makeTag(), items, now);
      this.model.append(channel, envelope!);
    });
  }

  /** Goes back some publications, as far as they are stored. */
  #diverge(channel: string, back: number): void {
    this.fleet.memory.logs.use(channel, (log) => {
      const stored = log.newest(back + 1);
      const to = stored.length > back ? stored[0]!.offset : stored[0]?.offset === 1 ? 0 : stored[0]?.offset;
      if (to === undefined) return;
      this.losses++;
      log.truncate(to);
    });
  }

  /** Faults stop, everyone reads and is connected, one check period passes; then the invariants are checked. */
  async finish(): Promise<void> {
    const { fleet } = this;
    for (const session of fleet.broker.sessions) session.heal();
    for (const peer of this.peers) peer.link?.flow();
    for (let round = 0; !(await this.#joined()); round++) {
      if (round === 6) throw new Violation(`P14 ${this.#missing().join(', ')} after ${round} rounds`);
    }
    await fleet.pass(CHECK_MS + READ_RETRY_MS, CHECK_MS / 4);
    this.#checkRest();
    this.#checkKeys();
  }

  /** Connects whoever has no link and subscribes to what is missing. True: nothing was missing. */
  async #joined(): Promise<boolean> {
    await this.fleet.pass(READ_RETRY_MS);
    const missing = this.#missing().length > 0;
    for (const reader of this.readers) reader.restart();
    this.peers.forEach((peer, i) => {
      if (peer.link === undefined) {
        if (peer.wanted.size > 0) peer.connect(i % this.fleet.hubs.length);
        return;
      }
      peer.link.flow();
      for (const channel of peer.wanted) if (!peer.follower(channel).on) peer.subscribe(channel);
    });
    await this.fleet.settle();
    return !missing;
  }

  #missing(): string[] {
    const readers = this.readers.filter(({ follower }) => !follower.on).map(({ who }) => who);
    const peers = this.peers.flatMap((peer) =>
      [...peer.wanted].filter((channel) => !peer.follower(channel).on).map((channel) => `${peer.client} in ${channel}`),
    );
    return [...peers, ...readers];
  }

  #checkRest(): void {
    for (const peer of this.peers) {
      for (const channel of peer.wanted) {
        const { on, position } = peer.follower(channel);
        const top = this.model.top(channel);
        if (!on || position !== top)
          throw new Violation(`P3 ${peer.client} in ${channel} is at ${position}, not ${top}`);
      }
      if (peer.unanswered.length > 0) throw new Violation(`P9 ${peer.client} waits for ${peer.unanswered.join(', ')}`);
      for (const { code, reason } of peer.closes) {
        const fine = (code === 4508 && peer.slow) || code === 1006;
        if (!fine) throw new Violation(`P14 ${peer.client} was closed: ${code} ${reason}`);
      }
    }
    for (const reader of this.readers) reader.check();
    const first = this.fleet.logged.find(({ level }) => level === 'error'); // time may leap over hooks that run
    if (first !== undefined) throw new Violation(`The hub logged ${first.message} ${String(first.error)}`);
  }

  /** P7, D8.2: one entry per key and position; what was acknowledged was appended. */
  #checkKeys(): void {
    const positions = new Map<string, string>();
    const acknowledged = [...this.#acknowledged, ...this.peers.flatMap((peer) => peer.acknowledged.map(scoped))];
    for (const { channel, n, key, position } of acknowledged) {
      const entry = this.model.entry(channel, position);
      if (entry === undefined) throw new Violation(`D8.2 ${n} was acknowledged at ${position}, which never was`);
      if (key === undefined && entry.data.n !== n) throw new Violation(`D8.2 ${n} was acknowledged at ${position}`);
      if (key === undefined) continue;
      if (entry.data.key !== key)
        throw new Violation(`P7 ${key} was acknowledged at ${position}, which has another key`);
      const before = positions.get(`${channel} ${key}`);
      if (before !== undefined && before !== position && this.losses === 0) {
        throw new Violation(`P7 ${key} is at ${before} and at ${position}`);
      }
      positions.set(`${channel} ${key}`, position);
    }
    for (const channel of this.options.channels) {
      const keys = new Set<string>();
      for (const [position, { data }] of this.model.history(channel, this.model.top(channel))) {
        if (data.key === undefined) continue;
        if (keys.has(data.key)) throw new Violation(`P7 ${data.key} is twice in ${channel}, again at ${position}`);
        keys.add(data.key);
      }
    }
  }

  async close(): Promise<void> {
    for (const reader of this.readers) reader.stop();
    await this.fleet.close();
  }
}

function scoped<T extends { key: string | undefined }>(acknowledged: T): T {
  const { key } = acknowledged;
  return key === undefined ? acknowledged : { ...acknowledged, key: `a:${key}` };
}
