/** One line of a page for Prometheus. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** A page for Prometheus, read by its text format (version 0.0.4). */
export class Exposition {
  readonly types = new Map<string, string>();
  readonly samples: readonly Sample[];

  constructor(text: string) {
    const samples: Sample[] = [];
    for (const line of text.split('\n')) {
      const [, typed, type] = /^# TYPE (\S+) (\S+)$/.exec(line) ?? [];
      if (typed !== undefined) this.types.set(typed, type!);
      if (line === '' || line.startsWith('#')) continue;
      const [, name, , inner = '', value] = /^([a-z_]+)(\{(.*)\})? (\S+)$/.exec(line) ?? [];
      if (name === undefined) throw new Error(`No line of a page: ${line}`);
      const labels = [...inner.matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)].map(([, label, text_]) => [label!, text_!]);
      samples.push({ name, labels: Object.fromEntries(labels), value: value === '+Inf' ? Infinity : Number(value) });
    }
    this.samples = samples;
  }

  /** The sum of a metric's samples with these labels. */
  sum(name: string, labels: Record<string, string> = {}): number {
    return this.#find(name, labels).reduce((sum, { value }) => sum + value, 0);
  }

  /** The values of a metric by one of its labels. */
  by(name: string, label: string): Record<string, number> {
    return Object.fromEntries(this.#find(name, {}).map(({ labels, value }) => [labels[label]!, value]));
  }

  #find(name: string, labels: Record<string, string>): Sample[] {
    const found = this.samples.filter(
      (sample) => sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value),
    );
    if (found.length === 0) throw new Error(`${name} ${JSON.stringify(labels)} is not on the page`);
    return found;
  }
}
