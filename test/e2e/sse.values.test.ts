import { afterEach, describe, expect, it } from '@jest/globals';
import { Controller, Sse, type MessageEvent } from '@nestjs/common';
import { concat, firstValueFrom, interval, NEVER, of, take, toArray, type Observable } from 'rxjs';
import { RealtimeModule, RealtimeService, RealtimeSse } from '../../lib/index.js';
import { openStream, type EventStream } from './support/event-stream.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';

class Told {
  constructor(readonly data: string) {}
}

@Controller('values')
class ValuesController {
  constructor(private readonly realtime: RealtimeService) {}

  @RealtimeSse('bare')
  bare(): Observable<unknown> {
    return concat(of('hello', 3, false, null, undefined, { n: 1 }, [1, 2], {}), NEVER);
  }

  @RealtimeSse('counted')
  counted(): Observable<number> {
    return interval(5);
  }

  @RealtimeSse('events')
  events(): Observable<Partial<MessageEvent>> {
    return concat(of({ comment: 'soon' }, { data: 'a', comment: 'with data' }, { type: 'b' }, new Told('c')), NEVER);
  }

  @Sse('beating')
  beating(): Observable<MessageEvent> {
    return this.realtime.events('bare', { heartbeatMs: 10 });
  }
}

describe.each(platforms)('what server-sent events carry on $name', (platform) => {
  let dispose: (() => Promise<void> | void)[] = [];
  afterEach(async () => {
    for (const end of dispose.reverse()) await end();
    dispose = [];
  });

  async function start(): Promise<RunningApp> {
    const running = await startApp(platform, {
      imports: [RealtimeModule.forRoot({ channels: { bare: { history: false } } })],
      controllers: [ValuesController],
    });
    dispose.push(running.close);
    return running;
  }

  async function open(url: string): Promise<EventStream> {
    const stream = await openStream(url);
    dispose.push(() => stream.close());
    return stream;
  }

  it('@RealtimeSse takes values that are no events as data', async () => {
    const { url } = await start();
    const stream = await open(`${url}/values/bare`);
    const first = await stream.event();
    expect(first).toMatchObject({ data: 'hello', retry: expect.any(String) });
    for (const data of ['3', 'false', 'null', 'null', '{"n":1}', '[1,2]', '{}']) {
      expect(await stream.event()).toEqual({ id: '', data });
    }
    const counted = await open(`${url}/values/counted`);
    expect([(await counted.event()).data, (await counted.event()).data]).toEqual(['0', '1']);
  });

  it('@RealtimeSse leaves events as they are, and comments without what a client would see', async () => {
    const { url } = await start();
    const stream = await open(`${url}/values/events`);
    expect(await stream.next()).toEqual({ comment: 'soon' });
    expect(await stream.next()).toEqual({ id: '', data: 'a', comment: 'with data', retry: expect.any(String) });
    expect(await stream.next()).toEqual({ event: 'b', id: '', data: 'null' });
    expect(await stream.next()).toEqual({ id: '', data: 'c' });
  });

  it('heartbeats of events() are comments without id, and nobody shares them', async () => {
    const { app, url } = await start();
    const stream = await open(`${url}/values/beating`);
    await stream.event('$open');
    expect(await stream.next()).toEqual({ comment: 'heartbeat' });

    const events = app.get(RealtimeService).events('bare', { heartbeatMs: 5 });
    const [, ours] = await firstValueFrom(events.pipe(take(2), toArray()));
    ours!.id = '1'; // what Nest does to events without one
    expect(await stream.next()).toEqual({ comment: 'heartbeat' });
    expect(await firstValueFrom(events.pipe(take(2), toArray()))).toEqual([
      expect.anything(),
      { comment: 'heartbeat' },
    ]);
  });
});
