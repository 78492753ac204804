import { Registry, type Metric } from 'prom-client';
import type { HistogramStats } from '../hub/ports/histogram.js';
import type { MetricsExporter, MetricsPage, MetricsSession } from '../hub/ports/metrics.js';
import type { RealtimeStats } from '../hub/ports/stats.js';
import { METRICS, type MetricDefinition } from './definitions.js';

/** How metrics are told to Prometheus. */
export interface PrometheusOptions {
  /**
   * Where the metrics are registered, beside those of the application: prom-client's own `register`, or another one. Two
   * applications of one process need one each. @defaultValue a registry of its own, with these metrics alone
   */
  registry?: Registry;
}

interface Value {
  readonly value: number;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly metricName?: string;
}

/** One metric as a registry of prom-client asks for it: its values are read when it is asked. */
class ReadMetric {
  /** The registry writes it anew for OpenMetrics. */
  name: string;
  readonly help: string;
  readonly type: string;
  /** How prom-client adds up the workers of node:cluster. */
  readonly aggregator: 'sum' | 'min';

  constructor(
    private readonly definition: MetricDefinition,
    private readonly read: () => RealtimeStats,
  ) {
    const { name, help, type } = definition;
    this.name = name;
    this.help = help;
    this.type = type;
    this.aggregator = name === 'realtime_ready' || name === 'realtime_broker_available' ? 'min' : 'sum';
  }

  get(): Promise<object> {
    const { name, help, type, aggregator } = this;
    return Promise.resolve({ name, help, type, aggregator, values: this.#values() });
  }

  /** What a node has counted is not forgotten. */
  reset(): void {
    return;
  }

  #values(): Value[] {
    const { definition: of } = this;
    const stats = this.read();
    if (of.type === 'histogram') {
      if (of.label === undefined) return bucketsOf(of.name, {}, of.read(stats));
      const { label, name } = of;
      return Object.entries(of.read(stats)).flatMap(([value, histogram]) =>
        bucketsOf(name, { [label]: value }, histogram),
      );
    }
    if (of.label === undefined) return [{ value: of.read(stats), labels: {} }];
    const { label } = of;
    return Object.entries(of.read(stats)).map(([key, value]) => ({ value, labels: { [label]: key } }));
  }
}

class PrometheusSession implements MetricsSession {
  readonly #metrics: readonly ReadMetric[];
  /** What all metrics of a scrape are read from. */
  #stats: RealtimeStats | undefined;

  constructor(
    private readonly registry: Registry,
    read: () => RealtimeStats,
  ) {
    const once = (): RealtimeStats => {
      // The registry asks all metrics in one turn.
      if (this.#stats === undefined) queueMicrotask(() => (this.#stats = undefined));
      return (this.#stats ??= read());
    };
    this.#metrics = METRICS.map((definition) => new ReadMetric(definition, once));
    for (const metric of this.#metrics) registry.registerMetric(metric as unknown as Metric);
  }

  async page(): Promise<MetricsPage> {
    const { contentType } = this.registry;
    return { contentType, body: await this.registry.metrics() };
  }

  close(): void {
    for (const metric of this.#metrics) {
      const known = this.registry.getSingleMetric(metric.name) as unknown;
      if (known === metric) this.registry.removeSingleMetric(metric.name);
    }
  }
}

class PrometheusExporter implements MetricsExporter {
  constructor(private readonly registry: Registry | undefined) {}

  open(read: () => RealtimeStats): MetricsSession {
    return new PrometheusSession(this.registry ?? new Registry(), read);
  }
}

/** The buckets of a histogram, each with all below it, as Prometheus has them. */
function bucketsOf(name: string, labels: Value['labels'], { bounds, counts, sum, count }: HistogramStats): Value[] {
  let below = 0;
  const buckets = [...bounds, '+Inf'].map((le, i) => {
    below += counts[i]!;
    return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: below };
  });
  return [
    ...buckets,
    { metricName: `${name}_sum`, labels, value: sum },
    { metricName: `${name}_count`, labels, value: count },
  ];
}

/**
 * Tells Prometheus what a node counts, by `prom-client`: `metrics: { exporter: prometheus() }` of the module. Values are
 * read when they are asked for.
 */
export function prometheus({ registry }: PrometheusOptions = {}): MetricsExporter {
  return new PrometheusExporter(registry);
}
