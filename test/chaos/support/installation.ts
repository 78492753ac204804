import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { App, type AppSettings } from './app.js';
import { Balancer } from './balancer.js';
import { followWithClient, followWithEventSource, type Follower } from './followers.js';
import { Ledger } from './ledger.js';

/** A hook of a gateway that ran. */
export interface HookRecord {
  readonly at: number;
  readonly hook: 'connect' | 'disconnect';
  readonly connection: string;
  /** Where it ran. */
  readonly node: string;
  readonly reason?: string;
}

/** A handler of a frame that began. */
export interface HandlerRun {
  readonly event: string;
  readonly label: string;
  /** What names the frame over all its runs. */
  readonly key?: string;
  /** Where it ran. */
  readonly node: string;
}

/** What the publisher says when it stops. */
export interface Published {
  /** The last number of each channel. */
  readonly last: Readonly<Record<string, number>>;
  /** How often it had to publish again, by the error. */
  readonly retries: Readonly<Record<string, number>>;
}

/** How many peers of each kind. */
export interface Peers {
  readonly websocket: number;
  readonly sse: number;
  readonly eventSource: number;
}

export type InstallationSettings = Pick<AppSettings, 'redis'> &
  Partial<AppSettings> & {
    readonly nodes: number;
    /** Where each node listens, in all its lives. */
    readonly ports?: readonly number[];
  };

const POLL_MS = 20;
const FLOW_MS = 90_000;
/** Peers that connect at a time. */
const ARRIVING = 50;

/** Nodes in processes of their own behind a balancer, a publisher, and peers in this process. */
export class Installation {
  readonly ledger = new Ledger();
  readonly followers: Follower[] = [];
  /** Every process that was a node, also those that were killed. */
  readonly history: App<number>[] = [];
  readonly nodes: App<number>[] = [];
  private started: App<boolean> | undefined;
  private readonly directory = mkdtempSync(path.join(tmpdir(), 'chaos-'));
  private readonly settings: AppSettings;
  private readonly ports: readonly number[];
  private readonly names: number[] = [];

  private constructor(
    readonly balancer: Balancer,
    { redis, ports = [], leaseMs = 30_000, graceMs = 2_000, hookMs = 0 }: InstallationSettings,
  ) {
    this.ports = ports;
    const hooksFile = path.join(this.directory, 'hooks');
    this.settings = { redis, leaseMs, graceMs, hookMs, hooksFile, port: 0 };
  }

  static async start(settings: InstallationSettings): Promise<Installation> {
    const installation = new Installation(await Balancer.start(), settings);
    try {
      const starting = Array.from({ length: settings.nodes }, (_, i) => installation.startNode(i));
      const publisher = App.start<boolean>('publisher', 'publisher', installation.settings);
      installation.started = await publisher;
      await Promise.all(starting);
    } catch (error) {
      await installation.dispose();
      throw error;
    }
    return installation;
  }

  /** Starts a node at its place, which is free. */
  async startNode(index: number): Promise<void> {
    const life = (this.names[index] = (this.names[index] ?? 0) + 1);
    const node = await App.start<number>('node', `node ${index + 1}, life ${life}`, {
      ...this.settings,
      port: this.ports[index] ?? 0,
    });
    this.nodes[index] = node;
    this.history.push(node);
    this.balance();
  }

  /** Kills a node. */
  async killNode(index: number): Promise<void> {
    await this.nodes[index]!.kill();
    this.balance();
  }

  /** Peers that connect, each to some of the channels. */
  async follow({ websocket, sse, eventSource }: Peers, channels: readonly string[], each: number): Promise<void> {
    const kinds = [
      ...Array<'websocket'>(websocket).fill('websocket'),
      ...Array<'sse'>(sse).fill('sse'),
      ...Array<'EventSource'>(eventSource).fill('EventSource'),
    ];
    for (let from = 0; from < kinds.length; from += ARRIVING) {
      const arriving = kinds.slice(from, from + ARRIVING).map((kind, i) => {
        const mine = Array.from({ length: each }, (_, n) => channels[(from + i + n * 7) % channels.length]!);
        const { url } = this.balancer;
        const name = `${kind} ${from + i + 1}`;
        return kind === 'EventSource'
          ? followWithEventSource(name, url, mine, this.ledger)
          : followWithClient(name, url, kind, mine, this.ledger);
      });
      this.followers.push(...(await Promise.all(arriving)));
    }
  }

  /** A steady stream on channels. */
  startStream(channels: readonly string[], everyMs: number): Promise<void> {
    return this.publisher.ask('start', { channels, everyMs });
  }

  /** Ends the stream; resolves when all of it is in the log. */
  stopStream(): Promise<Published> {
    return this.publisher.ask('stop');
  }

  /** Publishes on each of the channels; resolves when all is in the log. */
  publish(channels: readonly string[], count: number): Promise<Published> {
    return this.publisher.ask('publish', { channels, count });
  }

  /** Resolves when publications of a channel come through: several times as many as it has peers. */
  async flows(channel: string): Promise<void> {
    const { deliveredOn } = this.ledger;
    const peers = this.followers.filter(({ channels }) => channels.includes(channel)).length;
    const enough = (deliveredOn.get(channel) ?? 0) + 4 * peers;
    const lacking = (): string[] => ((deliveredOn.get(channel) ?? 0) < enough ? [channel] : []);
    const stuck = await untilNone(lacking, FLOW_MS);
    if (stuck.length > 0) throw new Error(`Nothing comes through on ${channel} during ${this.ledger.during}`);
  }

  /** Each peer's part in each of its channels, as `peer on channel`. */
  subscriptions(channels: readonly string[]): string[] {
    return this.followers.flatMap((follower) =>
      follower.channels
        .filter((channel) => channels.includes(channel))
        .map((channel) => subscriptionName(follower.name, channel)),
    );
  }

  /** What is wrong with a follower's last numbers: where it is not at the end of a channel. */
  behind(last: Published['last']): string[] {
    return this.followers.flatMap(({ name, channels }) =>
      channels
        .filter((channel) => this.ledger.lastOf(name, channel) !== (last[channel] ?? 0))
        .map((channel) => `${name} on ${channel} got ${this.ledger.lastOf(name, channel)} of ${last[channel] ?? 0}`),
    );
  }

  /** Every hook that ran, so far. */
  hooks(): HookRecord[] {
    return readLines(this.settings.hooksFile) as HookRecord[];
  }

  /** Every handler of a frame that began, so far. */
  runs(): HandlerRun[] {
    return readLines(`${this.settings.hooksFile}-runs`) as HandlerRun[];
  }

  async dispose(): Promise<void> {
    for (const follower of this.followers) follower.close();
    await Promise.all([...this.history, ...(this.started ? [this.started] : [])].map((app) => app.kill()));
    await this.balancer.dispose();
    rmSync(this.directory, { recursive: true, force: true });
  }

  private get publisher(): App<boolean> {
    return this.started!;
  }

  private balance(): void {
    const living = this.nodes.filter((node) => node !== undefined && node.killedAt === undefined);
    this.balancer.targets = living.map(({ ready }) => ready);
  }
}

/** The lines that are whole: a node may be writing the last one. */
function readLines(file: string): unknown[] {
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as unknown);
}

/** How a peer's part in a channel is named in notes. */
export function subscriptionName(who: string, channel: string): string {
  return `${who} on ${channel}`;
}

/** The addresses of servers, as clients take them. */
export function addresses(servers: readonly { port: number }[]): { host: string; port: number }[] {
  return servers.map(({ port }) => ({ host: '127.0.0.1', port }));
}

/** Resolves once there are no findings; after a time with those that are left, for an assertion to show. */
export async function untilNone<T>(find: () => T[] | Promise<T[]>, withinMs: number): Promise<T[]> {
  const deadline = performance.now() + withinMs;
  for (;;) {
    const findings = await find();
    if (findings.length === 0 || performance.now() > deadline) return findings;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** Resolves with the first thing that is found; rejects after a time. */
export async function untilFound<T>(find: () => T | undefined, what: string, withinMs: number): Promise<T> {
  const deadline = performance.now() + withinMs;
  for (;;) {
    const found = find();
    if (found !== undefined) return found;
    if (performance.now() > deadline) throw new Error(`Not within ${withinMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** A time that is part of a fault. */
export function lasting(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
