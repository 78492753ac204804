export { RealtimeClient } from './client.js';
export type { ClientEvents, ClientStats, RequestOptions } from './client.js';
export type { ClientOptions, TransportName } from './options.js';
export type { BackoffOptions } from './backoff.js';
export type { ClientState, StateDetails } from './connector.js';
export type {
  Channel,
  ChannelSignals,
  ChannelState,
  HistoryOptions,
  Lost,
  Publication,
  PublicationOf,
  PublishOptions,
  Recovered,
} from './channel.js';
export type { Member, PresenceSignals } from './presence.js';
export type { ClientClock } from './clock.js';
export type { ClientLink, ClientTransport, IncomingFrame, LinkContext, LinkEnd } from './transport.js';
export type { WebSocketConstructor, WebSocketLike } from './websocket.transport.js';
export { CodedException as RealtimeException } from '../protocol/errors.js';
export type { ErrorCode } from '../protocol/errors.js';
export type { ConnectedData, LostReason, PresenceMember, SubscribeData, UnsubscribedData } from '../protocol/frames.js';
export type { Position } from '../protocol/position.js';
