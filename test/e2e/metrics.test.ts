import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import {
  Controller,
  ForbiddenException,
  Get,
  Injectable,
  type CanActivate,
  type ExecutionContext,
} from '@nestjs/common';
import { MessageBody, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { once } from 'node:events';
import { Counter, Registry } from 'prom-client';
import { interval } from 'rxjs';
import { WebSocket, type ClientOptions } from 'ws';
import {
  memoryBroker,
  RealtimeException,
  RealtimeModule,
  RealtimeService,
  type RealtimeModuleOptions,
  type RealtimeStats,
} from '../../lib/index.js';
import { prometheus } from '../../lib/prometheus.js';
import { Exposition } from '../support/exposition.js';
import { faultyBroker } from '../../lib/testing/faulty-broker.js';
import { PollingPeer, post } from '../support/polling-peer.js';
import { until } from '../support/redis-server.js';
import { bootFailure } from './support/boot-failure.js';
import { openStream } from './support/event-stream.js';
import { refused } from './support/gateway-peer.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';
import { as, tokenUsers } from './support/token-users.js';

@WebSocketGateway()
class EchoGateway {
  @SubscribeMessage('echo')
  echo(@MessageBody() data: unknown): unknown {
    return data;
  }

  @SubscribeMessage('fail')
  fail(): never {
    throw new RealtimeException('rejected');
  }

  @SubscribeMessage('limited')
  limited(): never {
    throw new RealtimeException('rate_limited');
  }

  @SubscribeMessage('ticks')
  ticks(): unknown {
    return interval(3_600_000);
  }
}

@Controller()
class OtherController {
  @Get('realtime/metrics')
  other(): string {
    return 'the application';
  }
}

/** Lets in who names the word. */
@Injectable()
class WordGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest();
    if (request.query.word === 'wrong') throw new ForbiddenException();
    context.switchToHttp().getResponse().header('X-Asked-By', request.ip);
    return request.headers.authorization === 'Bearer word';
  }
}

/** A peer that counts by itself what comes over its socket. */
class CountingPeer {
  readonly frames: any[] = [];
  /** Bytes of the frames, by RFC 6455: a head of 2, 4 or 10 bytes and the payload. */
  bytes = 0;
  sent = 0;
  sentBytes = 0;
  readonly #socket: WebSocket;

  constructor({ port }: RunningApp, options: ClientOptions = {}) {
    this.#socket = new WebSocket(`ws://127.0.0.1:${port}/realtime`, options);
    this.#socket.on('message', (data: Buffer) => {
      this.frames.push(JSON.parse(data.toString()));
      this.bytes += data.length + (data.length < 126 ? 2 : data.length < 65_536 ? 4 : 10);
    });
    this.#socket.on('error', () => undefined);
  }

  send(frame: unknown): void {
    const text = typeof frame === 'string' ? frame : JSON.stringify(frame);
    this.sent++;
    this.sentBytes += Buffer.byteLength(text);
    this.#socket.send(text);
  }

  opened(): Promise<unknown> {
    return once(this.#socket, 'open');
  }

  got(count: number): Promise<void> {
    return until(() => this.frames.length >= count, `${count} frames`);
  }

  /** Asks, and waits for the answer. */
  async ask(id: number, event: string, data?: unknown): Promise<any> {
    this.send({ id, event, data });
    const answer = (): any => this.frames.find((frame) => frame.id === id);
    await until(() => answer() !== undefined, `the answer to ${event}`);
    return answer();
  }

  close(code?: number, reason?: string): void {
    this.#socket.close(code, reason);
  }

  break(): void {
    this.#socket.terminate();
  }
}

const channels: RealtimeModuleOptions['channels'] = {
  'chat.:room': { history: { size: 5, ttlMs: 60_000 }, presence: true },
  news: { history: false, publish: true },
};

describe.each(platforms)('metrics on $name', (platform) => {
  let running: RunningApp | undefined;
  let registry: Registry;

  beforeEach(() => {
    registry = new Registry();
  });

  afterEach(async () => {
    await running?.close();
    running = undefined;
  });

  async function start(options: RealtimeModuleOptions = {}, controllers: any[] = []): Promise<RunningApp> {
    const settings = { channels: channels!, metrics: { exporter: prometheus({ registry }) }, ...options };
    running = await startApp(platform, {
      imports: [RealtimeModule.forRoot(settings)],
      controllers,
      providers: [EchoGateway, WordGuard],
    });
    return running;
  }

  const realtime = (): RealtimeService => running!.app.get(RealtimeService);
  const scrape = async (): Promise<Exposition> => new Exposition(await registry.metrics());

  async function peers(count: number): Promise<CountingPeer[]> {
    const connected = Array.from({ length: count }, () => new CountingPeer(running!));
    await Promise.all(connected.map((peer) => peer.got(1)));
    return connected;
  }

  describe('a scrape', () => {
    it('tells what peers counted: frames and bytes, both ways, and deliveries', async () => {
      await start();
      const all = await peers(10);
      for (const peer of all) await peer.ask(1, '$subscribe', { channel: 'news' });
      for (const peer of all.slice(0, 4)) await peer.ask(2, '$subscribe', { channel: 'chat.a' });
      for (let n = 0; n < 20; n++) await realtime().publish('news', 'n', 'x'.repeat(n * 20));
      for (let n = 0; n < 7; n++) await realtime().publish('chat.a', 'n', { n, text: 'ä€' });
      for (const peer of all) {
        await peer.ask(3, 'echo', 'ü');
        await peer.ask(4, 'nobody takes this');
        await peer.ask(5, 'fail');
      }
      all[0]!.send('no json');
      await until(() => all[0]!.frames.some(({ event }) => event === 'exception'), 'the exception');
      await until(() => all.every((peer) => presence(peer) === (all.indexOf(peer) < 4 ? 4 : 0)), 'the presence');
      for (const peer of all) await peer.ask(6, '$cancel', { id: 0 });

      const page = await scrape();
      const frames = all.flatMap((peer) => peer.frames);
      const count = (holds: (frame: any) => boolean): number => frames.filter(holds).length;
      const sum = (of: (peer: CountingPeer) => number): number => all.reduce((total, peer) => total + of(peer), 0);

      expect(page.sum('realtime_frames_sent_total')).toBe(frames.length);
      expect(page.sum('realtime_frames_sent_bytes_total')).toBe(sum(({ bytes }) => bytes));
      expect(page.sum('realtime_frames_received_total')).toBe(sum(({ sent }) => sent));
      expect(page.sum('realtime_frames_received_bytes_total')).toBe(sum(({ sentBytes }) => sentBytes));
      expect(page.by('realtime_frames_sent_total', 'event')).toMatchObject({
        publication: count(({ offset, event }) => offset !== undefined && event !== undefined),
        answer: count(({ id, event }) => id !== undefined || event === 'exception'),
        $connected: 10,
        $presence: count(({ event }) => event === '$presence'),
        skipped: 0,
      });
      const ofChannel = (name: string): number => count(({ channel, offset }) => channel === name && offset > 0);
      expect(page.by('realtime_deliveries_total', 'channel')).toEqual({
        news: ofChannel('news'),
        'chat.:room': ofChannel('chat.a'),
      });
      expect(page.by('realtime_publications_total', 'channel')).toEqual({ news: 20, 'chat.:room': 7 });
      expect(page.by('realtime_frames_received_total', 'event')).toMatchObject({
        $subscribe: 14,
        $cancel: 10,
        echo: 10,
        fail: 10,
        ticks: 0,
        unknown: 10,
        bad: 1,
        unread: 0,
      });
      expect(page.by('realtime_errors_total', 'code')).toEqual({ unknown_event: 10, rejected: 10, bad_frame: 1 });
      expect(page.sum('realtime_handler_duration_seconds_count', { event: 'echo' })).toBe(3);
      expect(page.sum('realtime_handler_duration_seconds_count', { event: '$subscribe' })).toBe(4);
    });

    it('tells every transport before anybody has come', async () => {
      await start();
      const page = await scrape();
      const nobody = { websocket: 0, sse: 0, 'long-polling': 0 };
      expect(page.by('realtime_connections_active', 'transport')).toEqual(nobody);
      expect(page.by('realtime_connections_opened_total', 'transport')).toEqual(nobody);
    });

    it('tells connections by their transport, as they come and go, and why they went', async () => {
      const app = await start();
      const [one, two, three] = await peers(3);
      const stream = await openStream(`${app.url}/realtime/sse?channels=news`);
      await stream.next();
      const poller = await PollingPeer.connect(() => `${app.url}/realtime`, { channels: { news: null } });
      let page = await scrape();
      const three1 = { websocket: 3, sse: 1, 'long-polling': 1 };
      expect(page.by('realtime_connections_active', 'transport')).toEqual(three1);
      expect(page.by('realtime_connections_opened_total', 'transport')).toEqual(three1);
      expect(page.sum('realtime_handshake_duration_seconds_count')).toBe(5);
      expect(page.sum('realtime_presence_members')).toBe(0);

      one!.close();
      two!.break();
      stream.close();
      await realtime()
        .disconnect(realtime().stats().node)
        .catch(() => undefined); // nobody of this name
      for (let n = 0; n < 500; n++) three!.send({ event: 'echo' }); // past the limit it is closed
      await until(() => realtime().health().connections === 1, 'the ends');
      page = await scrape();
      expect(page.by('realtime_connections_active', 'transport')).toEqual({ websocket: 0, sse: 0, 'long-polling': 1 });
      const closed = page.by('realtime_connections_closed_total', 'reason');
      expect(closed).toMatchObject({ abnormal: expect.any(Number), rate_limited: 1 });
      expect(page.sum('realtime_connections_closed_total')).toBe(4);
      expect(page.sum('realtime_connection_duration_seconds_count')).toBe(4);
      expect(page.sum('realtime_throttled_total', { limit: 'frames_per_second' })).toBeGreaterThan(0);
      expect(page.sum('realtime_frames_received_total', { event: 'unread' })).toBe(
        page.sum('realtime_throttled_total', { limit: 'frames_per_second' }),
      );
      expect(poller.positions).toHaveProperty('news');
    });

    it('tells what peers over long polling get and send', async () => {
      const app = await start();
      const poller = await PollingPeer.connect(() => `${app.url}/realtime`, { channels: { 'chat.a': null } });
      for (let n = 0; n < 3; n++) await realtime().publish('chat.a', 'n', n);
      const told = await poller.until(({ data }) => data === 2);
      await poller.send({ id: 1, event: 'echo', data: 1 });
      const page = await scrape();
      expect(told.filter(({ event }) => event === 'n')).toHaveLength(3);
      expect(page.sum('realtime_deliveries_total', { channel: 'chat.:room' })).toBe(3);
      expect(page.sum('realtime_frames_received_total', { event: 'echo' })).toBe(1);
      expect(page.sum('realtime_frames_sent_total', { event: 'answer' })).toBe(1);
    });

    it('tells handshakes that were refused', async () => {
      const app = await start({ auth: tokenUsers, limits: { connectionsPerUser: 1 } });
      await refused(app, '/realtime', { headers: { Authorization: 'Bearer' } });
      const first = new CountingPeer(app, as('ada'));
      await first.got(1);
      await refused(app, '/realtime', as('ada'));
      await refused(app, '/realtime', { headers: { Origin: 'https://elsewhere.example' } });
      expect((await scrape()).by('realtime_connections_refused_total', 'reason')).toEqual({
        unauthenticated: 1,
        too_many_connections: 1,
        origin_refused: 1,
      });
    });

    it('tells whose token was refused once, whether it came in a header or in the first frame', async () => {
      const authenticate = (): Promise<never> => Promise.reject(new RealtimeException('unauthenticated'));
      const app = await start({ auth: { authenticate } });
      await refused(app, '/realtime', as('nobody'));
      for (const event of ['$auth', '$resume', '$auth', '$resume', '$auth']) {
        const peer = new CountingPeer(app);
        await peer.opened();
        peer.send({ id: 1, event, data: { token: 'wrong', client: 'tab', channels: {} } });
        await peer.got(1);
        expect(peer.frames).toMatchObject([{ event: '$disconnect', data: { code: 4401, reason: 'unauthenticated' } }]);
      }
      await until(() => realtime().health().connections === 0, 'the ends');
      const page = await scrape();
      expect(page.by('realtime_connections_refused_total', 'reason')).toEqual({ unauthenticated: 6 });
      expect(realtime().stats().connections.closed).toEqual({});
    });

    it('tells ends by the code alone where a peer names a reason', async () => {
      await start();
      const [one, two] = await peers(2);
      one!.close(4000, 'slow_consumer');
      two!.close(1000, 'heartbeat_timeout');
      await until(() => realtime().health().connections === 0, 'the ends');
      const page = await scrape();
      expect(page.by('realtime_connections_closed_total', 'reason')).toEqual({ other: 1, normal: 1 });
      expect(page.sum('realtime_slow_consumers_total')).toBe(0);
    });

    it('tells the end of a connection over long polling', async () => {
      const app = await start();
      const poller = await PollingPeer.connect(() => `${app.url}/realtime`, { channels: { news: null } });
      await post(`${app.url}/realtime/send`, { pass: poller.pass, end: true }).reply;
      await until(() => page().closed.normal === 1, 'the end');
      expect(page()).toMatchObject({ opened: { 'long-polling': 1 }, active: {}, lifetimeSeconds: { count: 1 } });

      function page(): RealtimeStats['connections'] {
        return realtime().stats().connections;
      }
    });

    it('tells channels and subscriptions by pattern, members, and recoveries by outcome', async () => {
      await start();
      const [one, two] = await peers(2);
      const since = await realtime().publish('chat.a', 'n', 0);
      await one!.ask(1, '$subscribe', { channel: 'chat.a', since });
      await one!.ask(2, '$subscribe', { channel: 'chat.b', since: 'nothing-1-a' });
      await two!.ask(1, '$subscribe', { channel: 'chat.a' });
      const page = await scrape();
      expect(page.by('realtime_channels_active', 'channel')).toEqual({ 'chat.:room': 2, news: 0 });
      expect(page.by('realtime_subscriptions_active', 'channel')).toEqual({ 'chat.:room': 3, news: 0 });
      expect(page.by('realtime_recoveries_total', 'outcome')).toEqual({ recovered: 1, lost: 1 });
      expect(page.sum('realtime_presence_members')).toBe(3);
    });

    it('tells the time of calls of the broker, its errors, and whether it is there', async () => {
      const broker = faultyBroker(memoryBroker());
      await start({ broker });
      await realtime().publish('news', 'n', 1);
      broker.sessions[0]!.calls('append', 'unavailable');
      await expect(realtime().publish('news', 'n', 2)).rejects.toThrow();
      await until(() => realtime().health().status === 'up', 'the machine to give it time');
      const page = await scrape();
      expect(page.sum('realtime_broker_call_duration_seconds_count', { call: 'append' })).toBe(1);
      expect(page.by('realtime_broker_errors_total', 'code')).toEqual({ broker_unavailable: 1, outcome_unknown: 0 });
      expect(page.sum('realtime_broker_available')).toBe(1);
      expect(page.by('realtime_status', 'status')).toEqual({ up: 1, degraded: 0, down: 0 });
    });

    it('tells how long fan-out and delivery took', async () => {
      await start();
      const [peer] = await peers(1);
      await peer!.ask(1, '$subscribe', { channel: 'news' });
      await realtime().publish('news', 'n', 1);
      await peer!.got(3);
      const page = await scrape();
      expect(page.sum('realtime_fan_out_duration_seconds_count')).toBe(1);
      expect(page.sum('realtime_delivery_latency_seconds_count')).toBe(1);
    });

    it('tells delivery on the other node too', async () => {
      const broker = memoryBroker();
      const other = await start({ broker });
      const readOther = registry;
      registry = new Registry();
      await start({ broker });
      const peer = new CountingPeer(other);
      await peer.got(1);
      await peer.ask(1, '$subscribe', { channel: 'news' });
      await realtime().publish('news', 'n', 1);
      await peer.got(3);
      expect(new Exposition(await readOther.metrics()).sum('realtime_delivery_latency_seconds_count')).toBe(1);
      expect((await scrape()).sum('realtime_delivery_latency_seconds_count')).toBe(0);
      await other.close();
    });

    it('counts what the application refuses as throttled', async () => {
      await start();
      const [peer] = await peers(1);
      await peer!.ask(1, 'limited');
      const page = await scrape();
      expect(page.sum('realtime_throttled_total', { limit: 'application' })).toBe(1);
      expect(page.sum('realtime_errors_total', { code: 'rate_limited' })).toBe(1);
    });

    it('takes no label from a peer: what it names adds no sample', async () => {
      await start({ limits: { framesPerSecond: false } });
      const [peer] = await peers(1);
      await peer!.ask(1, 'nobody takes this');
      await peer!.ask(2, '$subscribe', { channel: 'chat.0' });
      await peer!.ask(3, '$publish', { channel: 'news', event: 'e0', data: 0 });
      const before = (await scrape()).samples.length;
      for (let n = 0; n < 100; n++) {
        await peer!.ask(10 + n, `nobody takes ${n}`);
        await peer!.ask(1_000 + n, '$subscribe', { channel: `chat.${n}` });
        await peer!.ask(2_000 + n, '$publish', { channel: 'news', event: `e${n}`, data: n });
      }
      expect((await scrape()).samples).toHaveLength(before);
    });

    it('names every metric by the conventions: base units, and _total for what only grows', async () => {
      await start();
      const { types, samples } = await scrape();
      for (const [name, type] of types) {
        expect(name).toMatch(/^realtime_[a-z_]+$/);
        expect([name, name.endsWith('_total')]).toEqual([name, type === 'counter']);
        expect(name).not.toMatch(/_(ms|milliseconds|kb|count|sum|bucket)(_|$)/);
        if (type === 'histogram') expect(name).toMatch(/_seconds$/);
      }
      for (const { name, labels } of samples) {
        if (name.endsWith('_bucket')) expect(labels).toHaveProperty('le');
      }
    });
  });

  describe('the registry', () => {
    it('that was given keeps what else is in it, and is left as it was', async () => {
      new Counter({ name: 'own_total', help: 'Of the application', registers: [registry] }).inc(3);
      await start();
      expect((await scrape()).sum('own_total')).toBe(3);
      await running!.close();
      running = undefined;
      expect(registry.getMetricsAsArray().map(({ name }) => name)).toEqual(['own_total']);
    });

    it('may write OpenMetrics', async () => {
      const open = registry as unknown as Registry<'application/openmetrics-text; version=1.0.0; charset=utf-8'>;
      open.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
      await start({ metrics: { exporter: prometheus({ registry }), guards: [] } });
      const response = await fetch(`${running!.url}/realtime/metrics`);
      expect(response.headers.get('content-type')).toBe(Registry.OPENMETRICS_CONTENT_TYPE);
      const text = await response.text();
      expect(text).toContain('# TYPE realtime_errors counter');
      expect(text).toContain('realtime_heartbeat_timeouts_total 0');
      expect(text.endsWith('# EOF\n')).toBe(true);
    });
  });

  describe('GET {path}/metrics', () => {
    const page = (query = '', init: RequestInit = {}): Promise<Response> =>
      fetch(`${running!.url}/realtime/metrics${query}`, init);

    it('is not there unless guards are named, also where the list of them is empty', async () => {
      await start({}, [OtherController]);
      expect(await (await page()).text()).toBe('the application');
      await running!.close();
      await start({ metrics: { exporter: prometheus(), guards: [] } }, [OtherController]);
      const response = await page();
      expect(response.headers.get('content-type')).toBe(Registry.PROMETHEUS_CONTENT_TYPE);
      expect(response.headers.get('cache-control')).toBe('no-store');
      expect(new Exposition(await response.text()).sum('realtime_ready')).toBe(1);
      expect((await page('', { method: 'POST' })).status).toBe(405);
      const head = await page('', { method: 'HEAD' });
      expect([head.status, await head.text()]).toEqual([200, '']);
      expect(Number(head.headers.get('content-length'))).toBeGreaterThan(1_000);
    });

    it('asks the guards, which refuse with a status of theirs', async () => {
      await start({ trustedProxies: 1, metrics: { exporter: prometheus({ registry }), guards: [WordGuard] } });
      expect((await page()).status).toBe(403);
      expect((await page('?word=wrong', { headers: { Authorization: 'Bearer word' } })).status).toBe(403);
      const headers = { Authorization: 'Bearer word', 'X-Forwarded-For': '9.8.7.6' };
      const response = await page('', { headers });
      expect([response.status, response.headers.get('x-asked-by')]).toEqual([200, '9.8.7.6']);
    });

    it('makes one page for all who ask within a second', async () => {
      let made = 0;
      const session = {
        page: async () => ({ contentType: 'text/plain', body: String(++made) }),
        close: () => undefined,
      };
      await start({ metrics: { exporter: { open: () => session }, guards: [] } });
      const pages = await Promise.all(Array.from({ length: 20 }, async () => (await page()).text()));
      expect(new Set(pages)).toEqual(new Set(['1']));
    });

    it('names the node of a page, and when that was made', async () => {
      let made = 0;
      const session = {
        page: async () => ({ contentType: 'text/plain', body: String(++made) }),
        close: () => undefined,
      };
      await start({ metrics: { exporter: { open: () => session }, guards: [] } });
      const from = Math.floor(performance.timeOrigin + performance.now());
      const pages = await Promise.all(
        Array.from({ length: 20 }, async () => {
          const response = await page();
          const at = Number(response.headers.get('realtime-page-time'));
          return { node: response.headers.get('realtime-node'), at, body: await response.text() };
        }),
      );
      const until = Math.ceil(performance.timeOrigin + performance.now());
      const times = new Map(pages.map(({ body, at }) => [body, at]));
      for (const { node, at, body } of pages) {
        expect([node, at]).toEqual([realtime().stats().node, times.get(body)]);
        expect(from <= at && at <= until).toBe(true);
      }
      expect((await page('', { method: 'HEAD' })).headers.get('realtime-node')).toBe(realtime().stats().node);
    });

    it('is for the path of the module alone, and needs no credentials of peers', async () => {
      await start({ auth: tokenUsers, metrics: { exporter: prometheus(), guards: [] }, transports: [] });
      expect((await page()).status).toBe(200);
    });
  });

  it('is refused at boot where the option is wrong', async () => {
    const failure = (metrics: unknown): Promise<string[]> =>
      bootFailure(platform, { imports: [RealtimeModule.forRoot({ metrics } as RealtimeModuleOptions)] });
    expect(await failure({})).toContain(
      '  - metrics.exporter: expected an exporter such as prometheus(), got undefined',
    );
    expect(await failure({ exporter: prometheus(), guards: 'all' })).toContain(
      '  - metrics.guards: expected an array of guards, got "all"',
    );
    expect(await failure({ exporter: prometheus(), route: true })).toContain(
      '  - metrics.route: is no option; known are exporter, guards',
    );
  });
});

/** How many members a peer was told of last. */
function presence({ frames }: CountingPeer): number {
  return frames.filter(({ event }) => event === '$presence').at(-1)?.data.count ?? 0;
}
