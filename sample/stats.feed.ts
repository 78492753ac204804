import { Injectable } from '@nestjs/common';
import { RealtimeService } from 'nestjs-realtime';
import { Feed } from './feed.js';
import { Leader } from './leader.js';

/** Publishes `tick` to `stats.server`: how many connections all nodes have, over which transports and on which nodes. */
@Injectable()
export class StatsFeed extends Feed {
  protected readonly intervalMs = 1_000;

  constructor(
    leader: Leader,
    private readonly realtime: RealtimeService,
  ) {
    super(leader);
  }

  protected async publishNext(): Promise<void> {
    const connections = await this.realtime.connections();
    await this.realtime.publish('stats.server', 'tick', {
      connections: connections.length,
      byTransport: countBy(connections.map(({ transport }) => transport)),
      byNode: countBy(connections.map(({ node }) => node)),
      at: Date.now(),
    });
  }
}

function countBy(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}
