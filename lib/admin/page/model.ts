import type { Finding, Hello, NodeReport, Past, Percentiles, Sample } from '../snapshot.js';

/** How many samples are drawn. */
export const DRAWN_SAMPLES = 150;
/** A node that has said nothing for so long is shown as silent, ms. */
const SILENT_MS = 7_000;
/** After how long a node that says nothing is taken for gone, ms. */
const FORGET_MS = 30_000;
/** For how long a node that is gone is shown, ms. */
const GONE_MS = 60_000;
/** Of how many nodes that are gone the samples are kept. */
const MAX_GONE = 256;
/** Clocks that differ by no more intervals than this are taken for the same: reports come when they come. */
const SAME_CLOCK = 2;
/** Over which time the rate of a channel is taken, ms. */
const RATE_MS = 10_000;

/** A node, and what it did. */
export interface NodeState {
  readonly report: NodeReport;
  readonly silent: boolean;
  /** It went not long ago: it left and said so, or has said nothing since. */
  readonly gone?: { readonly left: boolean; readonly agoMs: number };
}

/** A channel over all nodes. */
export interface ChannelState {
  readonly name: string;
  readonly pattern: string;
  readonly subscribers: number;
  readonly nodes: number;
  /** Publications per second; `undefined` until it is known. */
  readonly rate: number | undefined;
}

interface Entry {
  report: NodeReport | undefined;
  heardAt: number;
  readonly samples: Map<number, Sample>;
  /** The number of its newest sample. */
  newest: number;
  /** How many intervals its clock is behind that of the page. */
  behind: number | undefined;
  /** Where it is gone: its samples are the past of the charts. */
  gone: { readonly left: boolean; readonly at: number } | undefined;
}

interface Track {
  epoch: string;
  points: { readonly at: number; readonly offset: number }[];
}

type Rate = 'connections' | 'received' | 'sent' | 'published' | 'delivered' | 'errors' | 'refused';

/** What the page knows of the nodes. */
export class Model {
  hello: Hello | undefined;
  readonly #entries = new Map<string, Entry>();
  readonly #tracks = new Map<string, Track>();
  #begunAt = 0;
  /** When any node was heard. */
  #heardAt = 0;

  /** A stream begins, maybe from another node. What is known stays: a node that is not heard of again is gone after a while. */
  begin(hello: Hello): void {
    if (this.hello !== undefined && this.hello.intervalMs !== hello.intervalMs) this.#entries.clear();
    this.hello = hello;
    this.#begunAt = performance.now();
  }

  past({ node, samples }: Past): void {
    const entry = this.#entry(node);
    for (const sample of samples) this.#keep(entry, sample);
  }

  report(report: NodeReport): void {
    const entry = this.#entry(report.node);
    if (entry.report === undefined) this.#rename(entry, report);
    if (report.sample.slot > (entry.report?.sample.slot ?? -Infinity)) {
      this.#heardAt = entry.heardAt = performance.now(); // an old one may be told again
      entry.gone = undefined;
    }
    entry.report = report;
    entry.behind ??= Math.floor(Date.now() / (this.hello?.intervalMs ?? 1)) - report.sample.slot;
    this.#keep(entry, report.sample);
    for (const { name, epoch, offset } of report.channels.top) this.#track(name, epoch, offset);
    this.#forget();
  }

  gone(node: string): void {
    const entry = this.#entries.get(node);
    if (entry !== undefined) entry.gone ??= { left: !isSilent(entry), at: performance.now() };
  }

  /** In an order that stays. */
  get nodes(): NodeState[] {
    return this.#there
      .flatMap((entry) => (entry.report === undefined ? [] : [{ report: entry.report, silent: isSilent(entry) }]))
      .sort(byName);
  }

  /** The nodes that went not long ago. */
  get goneNodes(): NodeState[] {
    const now = performance.now();
    return [...this.#entries.values()]
      .flatMap(({ report, heardAt, gone }) => {
        if (report === undefined || gone === undefined || now - gone.at > GONE_MS) return [];
        const { left, at } = gone;
        return [{ report, silent: !left, gone: { left, agoMs: now - (left ? at : heardAt) } }];
      })
      .sort(byName);
  }

  /** Whether a node that is heard of cannot reach the broker. */
  get brokerAway(): boolean {
    return this.#speaking.some(({ report }) => report?.health.broker.available === false);
  }

  nameOfNode(id: string): string | undefined {
    const report = this.#entries.get(id)?.report;
    return report === undefined ? undefined : nameOf(report);
  }

  /** The samples of the last five minutes, added up over the nodes; `undefined` where there is none. */
  sums(name: Rate): (number | undefined)[] {
    return this.#slots((samples) => samples.reduce((sum, sample) => sum + sample[name], 0));
  }

  /** The same of a time, of the slowest node. */
  slowest(name: 'fanOutMs' | 'deliveryMs', which: 0 | 1): (number | undefined)[] {
    return this.#slots((samples) => {
      const known = samples.map((sample) => sample[name]).filter((value): value is Percentiles => value !== null);
      return known.length === 0 ? undefined : Math.max(...known.map((value) => value[which]));
    });
  }

  /** How many channels have subscribers on the node with the most of them, and those that are told of. */
  get channels(): { total: number; listed: ChannelState[] } {
    const found = new Map<string, { pattern: string; subscribers: number; nodes: number }>();
    let total = 0;
    for (const { report } of this.#speaking) {
      if (report === undefined) continue;
      total = Math.max(total, report.channels.total);
      for (const { name, pattern, subscribers } of report.channels.top) {
        const known = found.get(name);
        if (known === undefined) found.set(name, { pattern, subscribers, nodes: 1 });
        else {
          known.subscribers += subscribers;
          known.nodes++;
        }
      }
    }
    const listed = [...found].map(([name, state]) => ({ name, ...state, rate: this.rateOf(name) }));
    listed.sort((a, b) => b.subscribers - a.subscribers || (a.name < b.name ? -1 : 1));
    return { total: Math.max(total, listed.length), listed };
  }

  rateOf(channel: string): number | undefined {
    const points = this.#tracks.get(channel)?.points;
    const first = points?.[0];
    const last = points?.at(-1);
    if (first === undefined || last === undefined || last.at - first.at < 1_000) return undefined;
    return ((last.offset - first.offset) * 1_000) / (last.at - first.at);
  }

  /** What the nodes have counted since they started. */
  counted(name: 'refused' | 'errors' | 'closed' | 'losses' | 'throttled' | 'brokerErrors'): [string, number][] {
    const sums = new Map<string, number>();
    for (const { report } of this.#there) {
      for (const [label, amount] of Object.entries(report?.counted[name] ?? {})) {
        if (amount > 0) sums.set(label, (sums.get(label) ?? 0) + amount);
      }
    }
    return [...sums].sort((a, b) => b[1] - a[1]);
  }

  /** The connections of all nodes, by transport. */
  get transports(): [string, number][] {
    const sums = new Map<string, number>();
    for (const { report } of this.#speaking) {
      for (const [name, amount] of Object.entries(report?.connections ?? {})) {
        sums.set(name, (sums.get(name) ?? 0) + amount);
      }
    }
    return [...sums].sort((a, b) => b[1] - a[1]);
  }

  /** What falls short, and on which nodes. */
  get findings(): Map<string, { finding: Finding; nodes: string[] }[]> {
    const found = new Map<string, { finding: Finding; nodes: string[] }[]>();
    for (const { report } of this.#there) {
      for (const finding of report?.findings ?? []) {
        const list = found.get(finding.check) ?? [];
        found.set(finding.check, list);
        const known = list.find((each) => each.finding.message === finding.message);
        if (known === undefined) list.push({ finding, nodes: [nameOf(report!)] });
        else known.nodes.push(nameOf(report!));
      }
    }
    return found;
  }

  get #there(): Entry[] {
    return [...this.#entries.values()].filter(({ gone }) => gone === undefined);
  }

  /** Those that say what is now, or did at last: peers of those that are silent may be with these by now. */
  get #speaking(): Entry[] {
    return this.#there.filter(({ heardAt }) => this.#heardAt - heardAt <= SILENT_MS);
  }

  #slots(read: (samples: readonly Sample[]) => number | undefined): (number | undefined)[] {
    const entries = [...this.#entries.values()].filter(({ samples }) => samples.size > 0);
    const first = entries[0]?.behind ?? 0;
    const lines = entries.map(({ samples, newest, behind = first, gone }) => {
      const shift = Math.abs(behind - first) <= SAME_CLOCK ? 0 : behind - first;
      return { samples, newest: newest + shift, shift, waited: gone === undefined };
    });
    const last = Math.max(...lines.map(({ newest }) => newest));
    // The newest slot is drawn once every node that speaks has told it.
    const end = lines.every(({ newest, waited }) => !waited || newest === last || newest < last - 2) ? last : last - 1;
    return Array.from({ length: DRAWN_SAMPLES }, (_, i) => {
      const slot = end - DRAWN_SAMPLES + 1 + i;
      const there = lines.flatMap(({ samples, shift }) => samples.get(slot - shift) ?? []);
      return there.length === 0 ? undefined : read(there);
    });
  }

  #entry(node: string): Entry {
    let entry = this.#entries.get(node);
    if (entry === undefined) {
      const heardAt = performance.now();
      entry = { report: undefined, heardAt, samples: new Map(), newest: -Infinity, behind: undefined, gone: undefined };
      this.#entries.set(node, entry);
    }
    return entry;
  }

  /** A node that was taken for dead goes on by another name, and tells its samples by that: they count once. */
  #rename(entry: Entry, report: NodeReport): void {
    const intervalMs = this.hello?.intervalMs ?? 1;
    const startOf = ({ sample, uptimeMs }: NodeReport): number => sample.slot - uptimeMs / intervalMs;
    for (const [node, other] of this.#entries) {
      if (other.report === undefined || (other.gone === undefined && !isSilent(other))) continue;
      if (nameOf(other.report) !== nameOf(report)) continue;
      if (Math.abs(startOf(other.report) - startOf(report)) > SAME_CLOCK) continue;
      for (const [slot, sample] of other.samples) if (!entry.samples.has(slot)) this.#keep(entry, sample);
      this.#entries.delete(node);
    }
  }

  /** Nodes that fell silent are gone; of those that are gone, the samples stay for as long as they are drawn. */
  #forget(): void {
    const now = performance.now();
    const reachMs = DRAWN_SAMPLES * (this.hello?.intervalMs ?? 1);
    const gone: string[] = [];
    for (const [node, entry] of this.#entries) {
      if (entry.gone === undefined && now - Math.max(entry.heardAt, this.#begunAt) > FORGET_MS) this.gone(node);
      if (entry.gone === undefined) continue;
      if (now - entry.gone.at > reachMs) this.#entries.delete(node);
      else gone.push(node);
    }
    for (const node of gone.slice(0, -MAX_GONE)) this.#entries.delete(node);
  }

  #keep(entry: Entry, sample: Sample): void {
    const { samples } = entry;
    samples.set(sample.slot, sample);
    entry.newest = Math.max(entry.newest, sample.slot);
    if (samples.size <= DRAWN_SAMPLES) return;
    for (const slot of samples.keys()) if (slot <= entry.newest - DRAWN_SAMPLES) samples.delete(slot);
  }

  #track(name: string, epoch: string, offset: number): void {
    const at = performance.now();
    let track = this.#tracks.get(name);
    if (track?.epoch !== epoch) this.#tracks.set(name, (track = { epoch, points: [] }));
    const { points } = track;
    const last = points.at(-1);
    points.push({ at, offset: Math.max(offset, last?.offset ?? 0) }); // nodes follow at their own pace
    while (points.length > 2 && at - points[1]!.at >= RATE_MS) points.shift();
    if (this.#tracks.size > 2_000) this.#tracks.delete(this.#tracks.keys().next().value!);
  }
}

function isSilent({ heardAt }: Entry): boolean {
  return performance.now() - heardAt > SILENT_MS;
}

function byName(a: NodeState, b: NodeState): number {
  return nameOf(a.report).localeCompare(nameOf(b.report)) || (a.report.node < b.report.node ? -1 : 1);
}

export function nameOf({ host, pid }: NodeReport): string {
  return `${host}:${pid}`;
}
