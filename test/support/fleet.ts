import type { IncomingMessage } from 'node:http';
import { memoryBroker, type MemoryBroker } from '../../lib/brokers/memory.broker.js';
import type { Application } from '../../lib/hub/application.js';
import { Hub } from '../../lib/hub/hub.js';
import type { UserIdentity } from '../../lib/hub/identity.js';
import type { Log } from '../../lib/hub/log.js';
import { resolveSettings, type HubOptions } from '../../lib/hub/settings.js';
import type { AppendItem } from '../../lib/hub/ports/broker.js';
import type { Position } from '../../lib/protocol/position.js';
import { FaultyBroker, type FaultySession } from '../../lib/testing/faulty-broker.js';
import { ManualTurnClock } from './manual-turn-clock.js';
import { LineCodec, TestLink, type LinkPeer } from './test-link.js';

/** What a {@link Fleet} can be told: the hub's own options, and how many nodes there are. */
export interface FleetOptions extends Omit<HubOptions, 'broker' | 'clock' | 'log'> {
  /** @defaultValue 2 */
  nodes?: number;
  /** What differs from an application that allows everything and has no handlers. */
  application?: Partial<Application>;
}

/** What is told of a peer that arrives. */
export interface ArrivalOptions {
  user?: UserIdentity;
  awaitsToken?: boolean;
  query?: Record<string, string>;
}

/**
 * Several hubs on one in-process broker that fails as it is told, with links that do as they are told and a clock that
 * stands still. Nothing happens but what a test asks for: a run repeats exactly.
 */
export class Fleet {
  readonly clock = new ManualTurnClock();
  readonly memory: MemoryBroker = memoryBroker({ clock: this.clock });
  readonly broker = new FaultyBroker(this.memory);
  readonly hubs: Hub[];
  /** What the hubs logged. */
  readonly logged: { level: 'warn' | 'error'; message: string; error?: unknown }[] = [];
  readonly #makeHub: () => Hub;
  readonly #codec = new LineCodec();
  readonly #links = new Set<TestLink>();

  private constructor({ nodes = 2, application, ...options }: FleetOptions) {
    const log: Log = {
      warn: (message) => void this.logged.push({ level: 'warn', message }),
      error: (message, error) => void this.logged.push({ level: 'error', message, error }),
    };
    const { clock, broker } = this;
    this.#makeHub = () =>
      new Hub(resolveSettings({ ...options, broker, clock, log }), { ...openApplication, ...application });
    this.hubs = Array.from({ length: nodes }, this.#makeHub);
  }

  static async open(options: FleetOptions = {}): Promise<Fleet> {
    const fleet = new Fleet(options);
    for (const hub of fleet.hubs) {
      await hub.open();
      await hub.accept();
    }
    return fleet;
  }

  /** One more node; gives its number. */
  async addNode(): Promise<number> {
    await this.#add(true);
    return this.hubs.length - 1;
  }

  /** One more node, to which no peers come. */
  addWorker(): Promise<Hub> {
    return this.#add(false);
  }

  /** The faults of a node's broker session. */
  faults(node: number): FaultySession {
    return this.broker.session(this.hubs[node]!.node);
  }

  /** Joins a peer to a node; connection guards are not asked. Hooks run in the following microtasks. */
  join(node: number, peer: LinkPeer, { user, awaitsToken = false, query = {} }: ArrivalOptions = {}): TestLink {
    const hub = this.hubs[node]!;
    const link = new TestLink(this.#codec, this.clock, peer);
    link.connection = hub.arrive({
      endpoint: '0:/',
      transport: 'test',
      request: { rawHeaders: [] } as unknown as IncomingMessage,
      ip: '127.0.0.1',
      query,
      params: {},
      user,
      awaitsToken,
    });
    this.#links.add(link);
    link.connection.attach(link);
    return link;
  }

  /** Has a link delivered to. */
  watch(link: TestLink): void {
    this.#links.add(link);
  }

  /** Publishes as the application of a node would. */
  publish(
    node: number,
    channel: string,
    event: string,
    data: unknown,
    options: Pick<AppendItem, 'exclude' | 'key'> = {},
  ): Promise<Position> {
    const hub = this.hubs[node]!;
    return hub.publish(hub.match(channel), { event, data: JSON.stringify(data), ...options });
  }

  /** Gives every peer what it has read. True: there was something. */
  deliver(): boolean {
    let delivered = false;
    for (const link of this.#links) if (link.deliver()) delivered = true;
    return delivered;
  }

  /** Lets everything happen that can happen at this time. */
  async settle(): Promise<void> {
    do await this.clock.settle();
    while (this.deliver());
  }

  /** Lets what was asked for happen, and gives its outcome. */
  async settled<T>(promise: Promise<T>): Promise<T> {
    promise.catch(() => undefined);
    await this.settle();
    return promise;
  }

  /** Lets time pass, in steps. */
  async pass(ms: number, stepMs = 500): Promise<void> {
    await this.settle();
    for (let left = ms; left > 0; left -= stepMs) {
      this.clock.advance(Math.min(stepMs, left));
      await this.settle();
    }
  }

  async #add(serves: boolean): Promise<Hub> {
    const hub = this.#makeHub();
    this.hubs.push(hub);
    await hub.open();
    await hub.accept(serves);
    return hub;
  }

  /** Takes a link that is over out of the ones that are delivered to. */
  forget(link: TestLink): void {
    this.#links.delete(link);
  }

  async close(): Promise<void> {
    for (const hub of this.hubs) await hub.close();
  }
}

/** Allows everything, handles nothing; peers may publish where the channel's options say so. */
export const openApplication: Application = {
  admit: () => Promise.resolve(),
  connected: () => Promise.resolve(),
  resumed: () => Promise.resolve(),
  idempotent: () => false,
  disconnected: () => Promise.resolve(),
  handle: () => false,
  release: () => undefined,
  subscribing: () => Promise.resolve(undefined),
  publishing: (_connection, _match, _event, data) => Promise.resolve(data),
  unsubscribed: () => Promise.resolve(),
};
