export { openTelemetry, type OpenTelemetryOptions } from './tracing/opentelemetry.tracing.js';
