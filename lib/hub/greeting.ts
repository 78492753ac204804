import type { ConnectedData } from '../protocol/frames.js';
import type { UserIdentity } from './identity.js';
import type { HubSettings } from './settings.js';

/** The data of `$connected`. */
export function greetingOf(
  { id, user }: { readonly id: string; readonly user: UserIdentity | undefined },
  { heartbeat, limits }: Pick<HubSettings, 'heartbeat' | 'limits'>,
): ConnectedData {
  return {
    connection: id,
    heartbeatMs: heartbeat.intervalMs,
    timeoutMs: heartbeat.timeoutMs,
    maxFrameBytes: limits.maxFrameBytes === Infinity ? null : limits.maxFrameBytes,
    ...(user === undefined ? {} : { user: { id: user.id } }),
  };
}
