export { prometheus, type PrometheusOptions } from './metrics/prometheus.exporter.js';
