export {
  RealtimeHealthIndicator,
  type RealtimeHealthDetails,
  type RealtimeHealthResult,
} from './nest/health.indicator.js';
