export { RealtimeThrottlerGuard } from './nest/throttler.guard.js';
export { ThrottlingInterceptor } from './nest/throttling.interceptor.js';
