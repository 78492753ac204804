import type { INestApplication } from '@nestjs/common';
import { memoryBroker } from '../brokers/memory.broker.js';
import { Hub } from '../hub/hub.js';
import type { Broker } from '../hub/ports/broker.js';
import { systemClock, type Clock } from '../hub/ports/clock.js';
import { FaultyBroker, type FaultySession } from './faulty-broker.js';
import { FaultyLink } from './faulty-link.js';
import { connectTestClient, type TestClient, type TestClientOptions } from './test-client.js';

/** What the application of a node has to be made with. */
export interface NodeParts {
  /** Which node it is, from 0. */
  readonly node: number;
  /** What joins the nodes: for `overrideProvider(REALTIME_BROKER)`, or the module's option `broker`. */
  readonly broker: Broker;
  /** The fleet's clock: for `overrideProvider(REALTIME_CLOCK)`. */
  readonly clock: Clock;
}

/** What a fleet is told. */
export interface TestFleetOptions {
  /** How many nodes there are at first. @defaultValue 2 */
  nodes?: number;
  /** The clock of the broker, and for the applications. @defaultValue the process's own */
  clock?: Clock;
  /** Makes the application of a node; the fleet lets it listen, and closes it. */
  create: (parts: NodeParts) => Promise<INestApplication> | INestApplication;
}

/** How a client comes to a fleet. */
export interface FleetClientOptions extends Omit<TestClientOptions, 'through'> {
  /** The node that it connects to, or its successor. @defaultValue none: it connects through the fleet's link, to any */
  node?: number;
}

/**
 * Several nodes of an application in this process, joined by one broker in memory that fails as it is told, behind one
 * link that sends each request to the next node. The caller closes it, and with it applications and clients.
 */
export async function createTestFleet(options: TestFleetOptions): Promise<TestFleet> {
  const fleet = new TestFleet(options);
  try {
    await fleet.start();
  } catch (error) {
    await fleet.close();
    throw error;
  }
  return fleet;
}

/** The way to one node alone, which leads to its successor once it is restarted. */
interface Way {
  readonly apps: INestApplication[];
  readonly link: FaultyLink;
}

/** What {@link createTestFleet} makes. */
export class TestFleet {
  /** The applications, by node. */
  readonly apps: INestApplication[] = [];
  /** What joins the nodes; its logs can be wiped, trimmed and made to diverge. */
  readonly broker: FaultyBroker;
  readonly #options: TestFleetOptions;
  readonly #clock: Clock;
  readonly #clients = new Set<TestClient>();
  readonly #ways = new Map<number, Promise<Way>>();
  #link: FaultyLink | undefined;

  /** @internal */
  constructor(options: TestFleetOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.broker = new FaultyBroker(memoryBroker({ clock: this.#clock }));
  }

  /** The way from clients to the nodes, without stickiness. */
  get link(): FaultyLink {
    return this.#link!;
  }

  /** @internal */
  async start(): Promise<void> {
    this.#link = await FaultyLink.open(this.apps);
    for (let i = 0; i < (this.#options.nodes ?? 2); i++) await this.add();
  }

  /** One more node; gives its number. */
  async add(): Promise<number> {
    const node = this.apps.length;
    this.apps.push(await this.#create(node));
    return node;
  }

  /** Shuts a node down as a deployment does, and starts its successor in its place. */
  async restart(node: number): Promise<void> {
    await this.apps[node]!.close();
    const app = await this.#create(node);
    this.apps[node] = app;
    const way = await this.#ways.get(node);
    if (way !== undefined) way.apps[0] = app;
  }

  /** Shuts a node down as a deployment does. Its number stays taken. */
  async stop(node: number): Promise<void> {
    await this.apps[node]!.close();
  }

  /** Cuts a node off from the broker: what others publish does not reach it, and its own calls are `broker_unavailable`. */
  isolate(node: number): void {
    this.faults(node).pause();
  }

  /** The node reaches the broker again, and catches up. */
  rejoin(node: number): void {
    this.faults(node).resume();
  }

  /** The faults of a node's session at the broker, one by one. */
  faults(node: number): FaultySession {
    return this.broker.session(this.apps[node]!.get(Hub, { strict: false }).node);
  }

  /** A client of the fleet, like that of `createTestClient`. It is closed with the fleet. */
  async connect({ node, ...options }: FleetClientOptions = {}): Promise<TestClient> {
    const { apps, link } = node === undefined ? this : await this.#wayTo(node);
    const client = await connectTestClient(apps, { ...options, through: link });
    this.#clients.add(client);
    return client;
  }

  /** Closes the clients, the link and every application. */
  async close(): Promise<void> {
    for (const client of this.#clients) client.close();
    await this.#link?.close();
    for (const way of this.#ways.values()) await (await way).link.close();
    for (const app of this.apps) await app.close();
  }

  #wayTo(node: number): Promise<Way> {
    let way = this.#ways.get(node);
    if (way === undefined) {
      const apps = [this.apps[node]!];
      way = FaultyLink.open(apps).then((link) => ({ apps, link }));
      this.#ways.set(node, way);
    }
    return way;
  }

  async #create(node: number): Promise<INestApplication> {
    const app = await this.#options.create({ node, broker: this.broker, clock: this.#clock });
    try {
      await app.listen(0, '127.0.0.1');
    } catch (error) {
      await app.close();
      throw error;
    }
    return app;
  }
}
