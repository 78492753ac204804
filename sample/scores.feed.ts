import { Injectable } from '@nestjs/common';
import { RealtimeService } from 'nestjs-realtime';
import { Basketball, type Score } from './basketball.js';
import { Feed } from './feed.js';
import { Leader } from './leader.js';

/** Publishes `update` to `scores.final`. */
@Injectable()
export class ScoresFeed extends Feed {
  protected readonly intervalMs = 1_500;
  readonly #game = new Basketball();

  constructor(
    leader: Leader,
    private readonly realtime: RealtimeService,
  ) {
    super(leader);
  }

  protected override async takeOver(): Promise<void> {
    const { publications } = await this.realtime.history<Score>('scores.final', { limit: 1 });
    if (publications[0]) this.#game.goOnFrom(publications[0].data);
  }

  protected publishNext(): Promise<unknown> {
    return this.realtime.publish('scores.final', 'update', { ...this.#game.next(), at: Date.now() });
  }
}
