import { EventSource } from 'eventsource';
import WebSocket from 'ws';
import { RealtimeClient, type ClientOptions } from '../../../lib/client/index.js';
import type { Ledger } from './ledger.js';

/** A peer that follows channels, and notes in a ledger what it gets. */
export interface Follower {
  readonly name: string;
  /** As what it is a member of its channels. */
  readonly member: string;
  readonly channels: readonly string[];
  /** The id of its connection, as the hub told it last. */
  readonly connection: string;
  /** How often it was connected. */
  readonly connected: number;
  close(): void;
}

/** A peer with the client library. */
export interface ClientFollower extends Follower {
  readonly client: RealtimeClient;
}

const CLIENT_OPTIONS = { WebSocket, backoff: { minMs: 20, maxMs: 500, attemptsPer10s: 1_000 } };

/** Follows with the client library; resolves when every channel is subscribed. */
export async function followWithClient(
  name: string,
  url: string,
  transport: 'websocket' | 'sse' | 'long-polling',
  channels: readonly string[],
  ledger: Ledger,
  options: ClientOptions = {},
): Promise<ClientFollower> {
  const client = new RealtimeClient(url, { ...CLIENT_OPTIONS, ...options, transports: [transport] });
  const close = (): void => client.close();
  const follower = { name, member: client.id, channels, connection: '', connected: 0, close, client };
  client.on('error', (error) => ledger.defect(name, '-', `failed: ${error.message}`));
  client.on('connected', ({ connection }) => {
    follower.connection = connection;
    follower.connected += 1;
  });
  await Promise.all(
    channels.map((channelName) => {
      const channel = client.channel<{ tick: { n: number } }>(channelName);
      channel.on('lost', ({ reason }) => ledger.lose(name, channelName, reason));
      channel.on('skipped', ({ count }) => ledger.defect(name, channelName, `was told that ${count} are skipped`));
      channel.on('error', ({ code, message }) => {
        // Anything else passes, and is tried again.
        if (code === 'internal') ledger.defect(name, channelName, message);
      });
      channel.on('tick', ({ n }) => ledger.see(name, channelName, n));
      return channel.subscribe();
    }),
  );
  return follower;
}

/** Follows with the EventSource of npm; resolves when the stream is open. */
export async function followWithEventSource(
  name: string,
  url: string,
  channels: readonly string[],
  ledger: Ledger,
  fetchLike: typeof fetch = fetch,
): Promise<Follower> {
  const address = `${url}/sse?channels=${channels.join(',')}&client=${encodeURIComponent(name)}`;
  const source = new EventSource(address, { fetch: fetchLike });
  const follower = { name, member: name, channels, connection: '', connected: 0, close: () => source.close() };
  source.addEventListener('tick', ({ data }) => {
    const { channel, n } = JSON.parse(data as string) as { channel: string; n: number };
    ledger.see(name, channel, n);
  });
  source.addEventListener('$lost', ({ data }) => {
    const { channel, reason } = JSON.parse(data as string) as { channel: string; reason: string };
    ledger.lose(name, channel, reason);
  });
  for (const event of ['$skipped', '$unsubscribed', '$disconnect']) {
    source.addEventListener(event, ({ data }) => ledger.defect(name, '-', `got ${event} ${String(data)}`));
  }
  source.addEventListener('error', ({ code, message }) => {
    if (source.readyState === EventSource.CLOSED) {
      ledger.defect(name, '-', `gave up after ${String(code)} ${message ?? ''}`);
    }
  });
  await new Promise<void>((resolve) => {
    source.addEventListener('$open', ({ data }) => {
      const { connection, cursor, channels: answers } = JSON.parse(data as string) as OpenData;
      if (cursor !== (follower.connected > 0 ? 'used' : 'none')) ledger.defect(name, '-', `its cursor was ${cursor}`);
      for (const [channel, { recovered }] of Object.entries(answers)) {
        if (recovered === false) ledger.lose(name, channel, 'unrecovered');
      }
      follower.connection = connection;
      follower.connected += 1;
      resolve();
    });
  });
  return follower;
}

interface OpenData {
  readonly connection: string;
  readonly cursor: string;
  readonly channels: Record<string, { recovered?: boolean }>;
}
