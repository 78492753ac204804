import type { RealtimeStats } from './stats.js';

/** What a monitoring system reads. */
export interface MetricsPage {
  readonly contentType: string;
  readonly body: string;
}

/** Tells a monitoring system what a node counts: `prometheus()`. */
export interface MetricsExporter {
  /**
   * Called once per application, before anything else; `read` looks at the node, and is called whenever the metrics are
   * asked for. Throws where they cannot be told as configured. What it returns gives the page, and ends the telling.
   */
  open(read: () => RealtimeStats): MetricsSession;
}

/** An exporter at work for one application. */
export interface MetricsSession {
  page(): Promise<MetricsPage>;
  /** Nothing is told any more. Idempotent. */
  close(): void;
}
