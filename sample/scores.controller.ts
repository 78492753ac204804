import { Controller, type MessageEvent, Param, Sse, UseGuards } from '@nestjs/common';
import { Identity, LastEventId, RealtimeService, UserIdentity } from 'nestjs-realtime';
import type { Observable } from 'rxjs';
import { TokenGuard } from './token.guard.js';

@UseGuards(TokenGuard)
@Controller('feed')
export class ScoresController {
  constructor(private readonly realtime: RealtimeService) {}

  /** A channel behind a route of the application's own: Nest's `@Sse`, and still an EventSource that was away recovers. */
  @Sse('scores/:match')
  scores(
    @Param('match') match: string,
    @LastEventId() since?: string,
    @Identity() user?: UserIdentity,
  ): Observable<MessageEvent> {
    return this.realtime.events(`scores.${match}`, { since, user }); // no other than its token grants
  }
}
