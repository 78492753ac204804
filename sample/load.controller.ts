import { Controller, type MessageEvent, UseGuards } from '@nestjs/common';
import { RealtimeSse } from 'nestjs-realtime';
import { map, type Observable, timer } from 'rxjs';
import { TokenGuard } from './token.guard.js';

@UseGuards(TokenGuard)
@Controller('feed')
export class LoadController {
  /** Any observable as server-sent events, with heartbeats, `retry` and an orderly end. */
  @RealtimeSse('load', { heartbeatMs: 15_000, retryMs: 2_000 })
  load(): Observable<MessageEvent> {
    let before = process.cpuUsage();
    return timer(0, 1_000).pipe(
      map(() => {
        const { user, system } = process.cpuUsage(before);
        before = process.cpuUsage();
        const { rss, heapUsed } = process.memoryUsage();
        const cpuPercent = Number(((user + system) / 10_000).toFixed(1));
        return { type: 'load', data: { cpuPercent, heapMb: megabytes(heapUsed), rssMb: megabytes(rss) } };
      }),
    );
  }
}

function megabytes(bytes: number): number {
  return Number((bytes / 2 ** 20).toFixed(1));
}
