import { afterEach, describe, expect, it } from '@jest/globals';
import { Controller, Param, Sse, type MessageEvent } from '@nestjs/common';
import { EventSource } from 'eventsource';
import { concat, NEVER, of, type Observable } from 'rxjs';
import { LastEventId, RealtimeModule, RealtimeService, RealtimeSse, sse } from '../../lib/index.js';
import { openStream, refusedStream, type EventStream } from './support/event-stream.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';

const CURSOR = /^1~0:[0-9A-Za-z]{6}-\d+-[0-9a-z]+$/;

@Controller('scores')
class ScoresController {
  constructor(private readonly realtime: RealtimeService) {}

  @Sse('both')
  both(@LastEventId() since?: string): Observable<MessageEvent> {
    return this.realtime.events(['scores.a', 'scores.b'], since === undefined ? {} : { since });
  }

  @Sse(':channel')
  one(@Param('channel') channel: string, @LastEventId() since?: string): Observable<MessageEvent> {
    return this.realtime.events(channel, { heartbeatMs: 50, ...(since === undefined ? {} : { since }) });
  }
}

@Controller('any')
class AnyController {
  @RealtimeSse('values', { heartbeatMs: 50, retryMs: 1_000 })
  values(): Observable<{ data: unknown; id?: string; type?: string }> {
    const data = [1, 0, true, false, null, 'text', { a: 1 }, [2]].map((value) => ({ data: value }));
    return concat(of(...data, { data: 'last', id: '9', type: 'named' }), NEVER);
  }

  @RealtimeSse('rotated', { rotateMs: 20 })
  rotated(): Observable<MessageEvent> {
    return concat(of({ data: 'once' }), NEVER);
  }

  @RealtimeSse('short')
  short(): Observable<MessageEvent> {
    return of({ data: 'once' });
  }
}

const json = (text: string | undefined): any => JSON.parse(text!);

describe.each(platforms)('server-sent events on $name', (platform) => {
  let dispose: (() => Promise<void> | void)[] = [];
  afterEach(async () => {
    for (const end of dispose.reverse()) await end();
    dispose = [];
  });

  async function start(): Promise<RunningApp & { realtime: RealtimeService }> {
    const running = await startApp(platform, {
      imports: [
        RealtimeModule.forRoot({
          transports: [sse({ retryMs: 1_000 })],
          heartbeat: { intervalMs: 60, timeoutMs: 50 },
          channels: {
            'scores.:match': { history: { size: 10, ttlMs: 60_000 } },
            bare: { history: false },
            'closed.:name': { subscribe: false },
          },
        }),
      ],
      controllers: [ScoresController, AnyController],
    });
    dispose.push(running.close);
    return { ...running, realtime: running.app.get(RealtimeService) };
  }

  async function open(url: string, headers?: Record<string, string>): Promise<EventStream> {
    const stream = await openStream(url, headers);
    dispose.push(() => stream.close());
    return stream;
  }

  describe('events() under plain @Sse', () => {
    it('opens with `$open`, a retry and a cursor, then writes publications by their event with cursors', async () => {
      const { url, realtime } = await start();
      const stream = await open(`${url}/scores/scores.a`);
      const first = await stream.event();
      expect(first.event).toBe('$open');
      expect(Number(first.retry)).toBeGreaterThanOrEqual(1_500);
      expect(Number(first.retry)).toBeLessThanOrEqual(2_500);
      expect(first.id).toMatch(CURSOR);
      expect(json(first.data)).toEqual({
        cursor: 'none',
        channels: { 'scores.a': { position: first.id!.slice(4), size: 10, windowMs: 60_000 } },
      });
      const position = await realtime.publish('scores.a', 'goal', { minute: 12 });
      expect(await stream.event()).toEqual({ event: 'goal', id: `1~0:${position}`, data: '{"minute":12}' });
    });

    it('writes every JSON value as JSON text', async () => {
      const { url, realtime } = await start();
      const stream = await open(`${url}/scores/scores.a`);
      await stream.event('$open');
      const values = [0, 42, true, false, null, '', 'two\nlines', [1], {}];
      for (const value of values) await realtime.publish('scores.a', 'value', value);
      for (const value of values) expect(json((await stream.event('value')).data)).toEqual(value);
    });

    it('resumes by Last-Event-ID, by ?lastEventId= and by a position, and says what became of the cursor', async () => {
      const { url, realtime } = await start();
      const first = await realtime.publish('scores.a', 'n', 1);
      await realtime.publish('scores.a', 'n', 2);
      const last = await realtime.publish('scores.a', 'n', 3);
      const address = `${url}/scores/scores.a`;
      for (const stream of [
        await open(address, { 'Last-Event-ID': `1~0:${first}` }),
        await open(`${address}?lastEventId=${encodeURIComponent(`1~0:${first}`)}`),
        await open(address, { 'Last-Event-ID': first }),
      ]) {
        const opened = await stream.event('$open');
        expect(opened.id).toBe(`1~0:${first}`);
        expect(json(opened.data)).toMatchObject({
          cursor: 'used',
          channels: { 'scores.a': { recovered: true, position: first, until: last } },
        });
        expect((await stream.event('n')).data).toBe('2');
        expect((await stream.event('n')).id).toBe(`1~0:${last}`);
      }
      const nonsense = await open(address, { 'Last-Event-ID': 'nonsense' });
      const opened = await nonsense.event('$open');
      expect(json(opened.data).cursor).toBe('ignored');
      expect(opened.id).toBe(`1~0:${last}`);
    });

    it('says where live goes on if the cursor is too old', async () => {
      const { url, realtime } = await start();
      const first = await realtime.publish('scores.a', 'n', 0);
      for (let n = 1; n <= 20; n++) await realtime.publish('scores.a', 'n', n);
      const { position } = await realtime.history('scores.a');
      const stream = await open(`${url}/scores/scores.a`, { 'Last-Event-ID': `1~0:${first}` });
      const { data } = await stream.event('$open');
      expect(json(data).channels['scores.a']).toMatchObject({ recovered: false, position });
    });

    it('resumes several channels by one cursor', async () => {
      const { url, realtime } = await start();
      const stream = await open(`${url}/scores/both`);
      await stream.event('$open');
      await realtime.publish('scores.a', 'a', 1);
      await realtime.publish('scores.b', 'b', 1);
      await stream.event('a');
      const { id } = await stream.event('b');
      await realtime.publish('scores.a', 'a', 2);
      await realtime.publish('scores.b', 'b', 2);
      const resumed = await open(`${url}/scores/both`, { 'Last-Event-ID': id! });
      await resumed.event('$open');
      const events = [await resumed.event(), await resumed.event()].map(({ event, data }) => `${event!}${data!}`);
      expect(events.sort()).toEqual(['a2', 'b2']);
    });

    it('sends comments as heartbeats', async () => {
      const { url } = await start();
      const stream = await open(`${url}/scores/scores.a`);
      await stream.event('$open');
      expect(await stream.next()).toEqual({ comment: 'heartbeat' });
      expect(await stream.next()).toEqual({ comment: 'heartbeat' });
    });

    it('answers a channel that is not declared with a real status', async () => {
      const { url } = await start();
      const { status, body } = await refusedStream(`${url}/scores/unknown`);
      expect(status).toBe(404);
      expect(body).toMatchObject({ error: { code: 'unknown_channel' } });
    });

    it('ends when the application closes', async () => {
      const { url, close } = await start();
      const stream = await open(`${url}/scores/scores.a`);
      await stream.event('$open');
      await Promise.all([close(), stream.ended]);
    });
  });

  describe('@RealtimeSse', () => {
    it('takes any data, invents no id, and looks after retry and heartbeats', async () => {
      const { url } = await start();
      const stream = await open(`${url}/any/values`);
      const first = await stream.event();
      expect(first.data).toBe('1');
      expect(Number(first.retry)).toBeGreaterThanOrEqual(750);
      expect(Number(first.retry)).toBeLessThanOrEqual(1_250);
      expect(first.id ?? '').toBe('');
      for (const text of ['0', 'true', 'false', 'null', 'text', '{"a":1}', '[2]']) {
        const block = await stream.event();
        expect(block.data).toBe(text);
        expect(block.id ?? '').toBe('');
        expect(block.retry).toBeUndefined();
      }
      expect(await stream.event()).toEqual({ data: 'last', id: '9', event: 'named' });
      expect(await stream.comment()).toBe('heartbeat');
    });

    it('ends with its observable, by rotation, and when the application closes', async () => {
      const { url, close } = await start();
      await (
        await open(`${url}/any/short`)
      ).ended;
      await (
        await open(`${url}/any/rotated`)
      ).ended;
      const stream = await open(`${url}/any/values`);
      await stream.event('named');
      await Promise.all([close(), stream.ended]);
    });
  });

  describe('GET {path}/sse', () => {
    it('serves a bare EventSource over several channels, and resumes it', async () => {
      const { url, realtime } = await start();
      const address = `${url}/realtime/sse?channels=scores.a,scores.b`;
      const source = new EventSource(address);
      dispose.push(() => source.close());
      const opened = new Promise<any>((resolve) => source.addEventListener('$open', ({ data }) => resolve(json(data))));
      const b = new Promise<any>((resolve) => source.addEventListener('b', resolve));
      expect(await opened).toMatchObject({ cursor: 'none', connection: expect.any(String) });
      await realtime.publish('scores.a', 'a', { n: 1 });
      const position = await realtime.publish('scores.b', 'b', { n: 2 });
      const { data, lastEventId } = await b;
      expect(json(data)).toEqual({ n: 2 });
      expect(lastEventId).toContain(`!1:${position}`);
      source.close();
      await realtime.publish('scores.a', 'a', { n: 3 });
      const resumed = await open(address, { 'Last-Event-ID': lastEventId });
      expect(json((await resumed.event()).data)).toMatchObject({
        cursor: 'used',
        channels: { 'scores.a': { recovered: true }, 'scores.b': { recovered: true } },
      });
      expect(await resumed.event()).toMatchObject({ event: 'a', data: '{"n":3}' });
    });

    it('is an event stream that nothing in between stores or changes, with comments as heartbeats', async () => {
      const { url } = await start();
      const stream = await open(`${url}/realtime/sse?channels=bare`);
      expect(stream.headers['content-type']).toMatch(/^text\/event-stream/);
      expect(stream.headers['cache-control']).toMatch(/no-store|no-cache/);
      expect(stream.headers['x-content-type-options']).toBe('nosniff');
      const { retry, event } = await stream.next();
      expect(event).toBe('$open');
      expect(Number(retry)).toBeGreaterThanOrEqual(750);
      expect(Number(retry)).toBeLessThanOrEqual(1_250);
      expect(Object.keys(await stream.next())).toEqual(['comment']);
    });

    it.each([
      ['?channels=unknown', 404, 'unknown_channel'],
      ['?channels=scores.a,unknown', 404, 'unknown_channel'],
      ['?channels=closed.x', 403, 'forbidden'],
      ['', 400, 'invalid'],
      ['?channels=bare,bare', 400, 'invalid'],
      ['?channels=bare&format=xml', 400, 'invalid'],
    ])('refuses %p with %p and JSON', async (query, status, code) => {
      const { url } = await start();
      const answer = await refusedStream(`${url}/realtime/sse${query}`);
      expect(answer.status).toBe(status);
      expect(answer.headers['content-type']).toMatch(/^application\/json/);
      expect(answer.body).toMatchObject({ error: { code, message: expect.any(String) } });
    });

    it('makes an EventSource give up on a refusal', async () => {
      const { url } = await start();
      const source = new EventSource(`${url}/realtime/sse?channels=unknown`);
      dispose.push(() => source.close());
      const code = await new Promise((resolve) => source.addEventListener('error', (event) => resolve(event.code)));
      expect(code).toBe(404);
      expect(source.readyState).toBe(EventSource.CLOSED);
    });

    it('says `$disconnect` and ends the streams when the application closes', async () => {
      const { url, close } = await start();
      const stream = await open(`${url}/realtime/sse?channels=scores.a`);
      await stream.event('$open');
      const [told] = await Promise.all([stream.event('$disconnect'), close(), stream.ended]);
      expect(json(told.data)).toMatchObject({ reconnect: true });
    });
  });
});
