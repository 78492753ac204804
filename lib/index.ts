export { RealtimeModule } from './nest/realtime.module.js';
export { RealtimeService, type Emitter, type PublishOptions, type RevokeOptions } from './nest/realtime.service.js';
export type { AuditFinding } from './nest/audit.js';
export {
  REALTIME_BROKER,
  REALTIME_CLOCK,
  REALTIME_OPTIONS,
  type AdminOptions,
  type MetricsOptions,
  type RealtimeModuleOptions,
  type RealtimeOptionsFactory,
} from './nest/options.js';
export {
  ChannelGateway,
  ChannelParam,
  Identity,
  OnPublish,
  OnSubscribe,
  OnUnsubscribe,
} from './nest/channel.decorators.js';
export { LastEventId, RealtimeSse, type RealtimeSseOptions } from './nest/sse.decorators.js';
export { WsParam } from './nest/ws-param.decorator.js';
export { Idempotent } from './nest/idempotent.decorator.js';
export { SendKey } from './nest/send-key.decorator.js';
export type { OnGatewayResume } from './nest/gateway-application.js';
export { BaseRealtimeExceptionFilter } from './nest/exception.filter.js';

export { Connection } from './hub/connection.js';
export { Endpoint } from './hub/endpoint.js';
export { UserIdentity } from './hub/identity.js';
export { Publication } from './hub/publication.js';
export type { HubHealth } from './hub/health.js';
export type { ChannelStats, FrameStats, RealtimeStats } from './hub/ports/stats.js';
export type { HistogramStats } from './hub/ports/histogram.js';
export type { MetricsExporter, MetricsPage, MetricsSession } from './hub/ports/metrics.js';
export type {
  TracedDelivery,
  TracedFrame,
  TracedHandshake,
  TracedPublication,
  TraceSpan,
  Tracing,
} from './hub/ports/tracing.js';
export type { LeaveReason } from './hub/application.js';
export type { DisconnectOptions } from './hub/control.js';
export type { ChannelOptions } from './hub/definition.js';
export type { DrainOptions, LimitOptions } from './hub/settings.js';

export { memoryBroker, type MemoryBroker, type MemoryBrokerOptions } from './brokers/memory.broker.js';
export { longPolling, type LongPollingOptions } from './transports/long-polling.transport.js';
export { sse, type SseOptions } from './transports/sse.transport.js';
export { webSocket, type CompressionOptions, type WebSocketOptions } from './transports/websocket.transport.js';
export type { Clock } from './hub/ports/clock.js';
export { anonymous, type Authenticator, type Credentials } from './hub/ports/authenticator.js';
export type { OriginSetting } from './security/origin.js';
export type { TrustedProxies } from './security/proxy.js';

export { ERRORS, RealtimeException, type ErrorBody, type ErrorCode } from './protocol/errors.js';
export type { Position } from './protocol/position.js';
export type { LostData, PresenceMember, SubscribeData, UnsubscribedData } from './protocol/frames.js';

export type {
  AppendItem,
  AppendResult,
  Broker,
  BrokerListener,
  BrokerSession,
  ConnectionInfo,
  Envelope,
  Point,
  PresenceChange,
  PresenceEntry,
  ReadResult,
  RegisteredConnection,
  Retention,
  StoredItem,
} from './hub/ports/broker.js';
export type { Codec, Link, Run, RunItem } from './hub/ports/link.js';
export type {
  AdmittedConnection,
  Refusal,
  RequestExchange,
  Transport,
  TransportSettings,
  UpgradeExchange,
} from './hub/ports/transport.js';
