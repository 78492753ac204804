export { createTestClient, TestClient, type Received, type TestClientOptions } from './test-client.js';
export {
  createTestFleet,
  TestFleet,
  type FleetClientOptions,
  type NodeParts,
  type TestFleetOptions,
} from './test-fleet.js';
export { ManualClock } from './manual-clock.js';
export { FaultyLink, type LinkTarget, type RequestFate, type StreamMode, type UpgradeMode } from './faulty-link.js';
export { TcpLink } from './tcp-link.js';
export {
  FaultyBroker,
  faultyBroker,
  FaultySession,
  type AnnouncementFate,
  type AnnouncementKind,
  type CallFate,
  type CallName,
  type RecordCallName,
} from './faulty-broker.js';
export type { LogSurgery } from './log-surgery.js';
