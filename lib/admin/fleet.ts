import type { Hub } from '../hub/hub.js';
import { reportOf } from './report.js';
import { KEPT_SAMPLES, Sampler } from './sampler.js';
import { REPORT_FORMAT, SAMPLE_MS, type Finding, type NodeReport, type Past, type Sample } from './snapshot.js';

/** How many intervals pass between two requests to the other nodes to go on. */
const ASK_EVERY = 3;
/** For how long a node goes on after it was asked, ms. */
const ASKED_MS = 4 * ASK_EVERY * SAMPLE_MS;
/** A report takes no more than one in so many parts of a node's time: with very many channels it is made less often. */
const REPORT_SHARE = 30;
const MAX_REST_MS = 15_000;
/** After how long a node that says nothing is forgotten, ms. */
const FORGET_MS = 30_000;
/** Of how many other nodes is told. */
const MAX_NODES = 256;

/** What a watcher is told of a node: JSON text, which it may take later. What is told of it next counts in its place. */
export type Watcher = (event: 'node' | 'past' | 'gone', node: string, data: () => string) => void;

/** Another node. */
interface Known {
  heardAt: number;
  samples: Sample[];
  report: string | undefined;
}

/**
 * The nodes, as those see them who watch. Every node takes samples; it tells what it has while somebody watches, here or
 * on another node, which asks for it over the broker. Where the broker is away, it tells of itself.
 */
export class Fleet {
  readonly #sampler: Sampler;
  readonly #startedAt: number;
  readonly #watchers = new Set<Watcher>();
  readonly #known = new Map<string, Known>();
  readonly #requests;
  readonly #reports;
  #leaveRequests: (() => void) | undefined;
  #leaveReports: (() => void) | undefined;
  #joining = false;
  #pastAsked = false;
  /** The name that this node goes by among those who watch: it gets another one when it was taken for dead. */
  #name: string;
  #askedUntil = -Infinity;
  #ticks = 0;
  /** When the next report may be made, by the hub's clock. */
  #restsUntil = 0;
  #stop: (() => void) | undefined;

  constructor(
    private readonly hub: Hub,
    private readonly findings: () => readonly Finding[],
  ) {
    this.#sampler = new Sampler({
      meter: hub.meter,
      loop: hub.loop,
      connections: hub.connections,
      now: () => hub.now(),
    });
    this.#startedAt = hub.now();
    this.#name = hub.node;
    this.#requests = hub.control.channel('$admin');
    this.#reports = hub.control.channel('$admin.nodes');
  }

  /** Starts to take samples, and to listen to the other nodes. */
  async open(): Promise<void> {
    this.#sampler.take();
    this.#stop = this.hub.settings.clock.every(SAMPLE_MS, () => this.#tick());
    await this.#join();
  }

  /** Tells somebody what the nodes are and do, from what they have kept; the returned function ends it. */
  watch(watcher: Watcher): () => void {
    this.#watchers.add(watcher);
    const { node } = this.hub;
    watcher('past', node, () => this.#past());
    watcher('node', node, () => this.#report());
    for (const [other, known] of this.#known) {
      watcher('past', other, () => pastOf(other, known.samples));
      if (known.report !== undefined) watcher('node', other, () => known.report!);
    }
    void this.#join();
    return () => {
      this.#watchers.delete(watcher);
      if (this.#watchers.size > 0) return;
      this.#leaveReports?.();
      this.#leaveReports = undefined;
      this.#known.clear();
    };
  }

  /** Tells the other nodes that this one goes. */
  async close(): Promise<void> {
    this.#stop?.();
    this.#leaveRequests?.();
    this.#leaveReports?.();
    if (!this.#asked) return;
    await this.#leave(this.hub.node);
  }

  #tellReport(): void {
    const begun = performance.now();
    const report = this.#report();
    this.#restsUntil = this.hub.now() + Math.min(MAX_REST_MS, REPORT_SHARE * (performance.now() - begun));
    this.#tell('node', this.hub.node, report);
    if (this.#asked) this.#send('node', report);
  }

  #takeName(): void {
    if (this.#name === this.hub.node) return;
    this.#tell('gone', this.#name, JSON.stringify({ node: this.#name }));
    if (this.#asked) void this.#leave(this.#name);
    this.#name = this.hub.node;
  }

  #leave(node: string): Promise<void> {
    return this.#reports.send('gone', JSON.stringify({ node })).catch(() => undefined);
  }

  get #asked(): boolean {
    return this.#askedUntil > this.hub.now() && this.hub.health.broker.available;
  }

  #tick(): void {
    this.#sampler.take();
    const now = this.hub.now();
    for (const [node, { heardAt }] of this.#known) if (now - heardAt > FORGET_MS) this.#forget(node);
    void this.#join();
    if (this.#watchers.size === 0 && !this.#asked) return;
    this.#takeName();
    const restMs = this.#restsUntil - now;
    if (restMs <= 0 || restMs > MAX_REST_MS) this.#tellReport(); // above: the clock was set back
    if (this.#leaveReports !== undefined && ++this.#ticks % ASK_EVERY === 0) this.#ask();
  }

  /** Follows what has to be followed now. Where the broker is away, it is tried again with the next sample. */
  async #join(): Promise<void> {
    if (this.#joining || !this.hub.health.broker.available) return;
    this.#joining = true;
    try {
      this.#leaveRequests ??= await this.#requests.follow((event, data) => this.#requested(event, data));
      if (this.#watchers.size > 0 && this.#leaveReports === undefined) {
        const leave = await this.#reports.follow((event, data) => this.#heard(event, data));
        if (this.#watchers.size > 0) {
          this.#leaveReports = leave;
          this.#pastAsked = false;
          this.#ask();
        } else leave(); // they left meanwhile
      }
    } catch {
      // The broker is away.
    } finally {
      this.#joining = false;
    }
  }

  /** Asks the other nodes to tell what they have; the first time also what they have kept. */
  #ask(): void {
    const past = !this.#pastAsked;
    this.#requests.send('ask', JSON.stringify({ node: this.hub.node, past })).then(
      () => (this.#pastAsked = true),
      () => undefined,
    );
  }

  #requested(event: string, data: string): void {
    const { node, past } = JSON.parse(data) as { node: string; past: boolean };
    if (event !== 'ask' || node === this.hub.node) return;
    this.#askedUntil = this.hub.now() + ASKED_MS;
    if (!past) return;
    this.#send('past', this.#past());
    this.#send('node', this.#report());
  }

  #heard(event: string, data: string): void {
    const told = JSON.parse(data) as Partial<NodeReport & Past> & { node: string };
    const { node } = told;
    if (node === this.hub.node || this.#watchers.size === 0) return;
    if (event === 'gone') {
      this.#forget(node);
      return;
    }
    if (told.format !== REPORT_FORMAT) return;
    const known = this.#knownAs(node);
    if (known === undefined) return;
    known.heardAt = this.hub.now();
    if (event === 'past' && told.samples !== undefined) {
      known.samples = [...told.samples].slice(-KEPT_SAMPLES);
      this.#tell('past', node, data);
    } else if (event === 'node' && told.sample !== undefined) {
      known.report = data;
      if ((known.samples.at(-1)?.slot ?? -Infinity) < told.sample.slot) known.samples.push(told.sample);
      if (known.samples.length > KEPT_SAMPLES) known.samples.shift();
      this.#tell('node', node, data);
    }
  }

  #knownAs(node: string): Known | undefined {
    let known = this.#known.get(node);
    if (known === undefined && this.#known.size < MAX_NODES) {
      this.#known.set(node, (known = { heardAt: 0, samples: [], report: undefined }));
    }
    return known;
  }

  #forget(node: string): void {
    if (this.#known.delete(node)) this.#tell('gone', node, JSON.stringify({ node }));
  }

  #tell(event: 'node' | 'past' | 'gone', node: string, data: string): void {
    for (const watcher of this.#watchers) watcher(event, node, () => data);
  }

  #send(event: 'node' | 'past', data: string): void {
    this.#reports.send(event, data).catch(() => undefined);
  }

  #past(): string {
    return pastOf(this.hub.node, this.#sampler.samples);
  }

  #report(): string {
    const sample = this.#sampler.samples.at(-1)!;
    return JSON.stringify(reportOf(this.hub, { startedAt: this.#startedAt, findings: this.findings(), sample }));
  }
}

function pastOf(node: string, samples: readonly Sample[]): string {
  return JSON.stringify({ format: REPORT_FORMAT, node, samples } satisfies Past);
}
