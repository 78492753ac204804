import { afterEach, describe, expect, it } from '@jest/globals';
import { ForbiddenException, Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { get as httpGet, type IncomingMessage } from 'node:http';
import { once } from 'node:events';
import {
  anonymous,
  memoryBroker,
  RealtimeModule,
  RealtimeService,
  type Broker,
  type RealtimeModuleOptions,
} from '../../lib/index.js';
import { Hub } from '../../lib/hub/hub.js';
import { redisBroker } from '../../lib/redis.js';
import type { Hello, NodeReport, Past } from '../../lib/admin/snapshot.js';
import { RedisServer, until } from '../support/redis-server.js';
import { Stopwatch } from '../support/stopwatch.js';
import { bootFailure } from './support/boot-failure.js';
import { connect } from './support/gateway-peer.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';
import { as, tokenUsers } from './support/token-users.js';

/** Lets in who names the word; who names another is forbidden. */
@Injectable()
class WordGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const { headers } = context.switchToHttp().getRequest();
    if (headers.authorization === 'Bearer wrong') throw new ForbiddenException();
    return headers.authorization === 'Bearer word';
  }
}

const WORD = { authorization: 'Bearer word' };
const JSON_TYPE = { ...WORD, 'content-type': 'application/json' };
/** How soon an application ends that nobody holds up, ms. */
const SOON_MS = 3_000;
/** A name that would run, were it read as HTML. */
const HOSTILE = '<img src=x onerror=alert(1)>';

/** The events of one of the page's streams. */
class Watch {
  readonly events: { event: string; data: any }[] = [];
  ended = false;
  readonly #response: IncomingMessage;

  private constructor(response: IncomingMessage) {
    this.#response = response;
    let text = '';
    response.setEncoding('utf8').on('data', (chunk: string) => {
      const parts = (text + chunk).split('\n\n');
      text = parts.pop()!;
      for (const part of parts) {
        const [, event, data] = /^event: (.*)\ndata: (.*)$/.exec(part) ?? [];
        if (event !== undefined) this.events.push({ event, data: JSON.parse(data!) });
      }
    });
    response.on('close', () => (this.ended = true)).on('error', () => undefined);
  }

  static async open({ url }: RunningApp, path: string): Promise<Watch> {
    const request = httpGet(`${url}/realtime/admin/${path}`, { headers: WORD });
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    expect([response.statusCode, response.headers['content-type']]).toEqual([200, 'text/event-stream; charset=utf-8']);
    return new Watch(response);
  }

  all<T>(event: string): T[] {
    return this.events.filter((each) => each.event === event).map(({ data }) => data as T);
  }

  async first<T>(event: string, matches: (data: T) => boolean = () => true): Promise<T> {
    const found = (): T | undefined => this.all<T>(event).find(matches);
    await until(() => found() !== undefined, `the event ${event}`);
    return found()!;
  }

  close(): void {
    this.#response.destroy();
  }
}

describe.each(platforms)('the admin page on $name', (platform) => {
  let dispose: (() => unknown)[] = [];
  afterEach(async () => {
    for (const end of dispose.reverse()) await end();
    dispose = [];
  });

  async function start(options: RealtimeModuleOptions = {}): Promise<RunningApp> {
    const settings: RealtimeModuleOptions = {
      auth: tokenUsers,
      channels: { 'chat.:room': { presence: true }, news: { history: false } },
      admin: { guards: [WordGuard] },
      ...options,
    };
    const app = await startApp(platform, { imports: [RealtimeModule.forRoot(settings)], providers: [WordGuard] });
    dispose.push(() => app.close());
    return app;
  }

  const get = (app: RunningApp, path: string, headers: Record<string, string> = WORD): Promise<Response> =>
    fetch(`${app.url}/realtime/admin${path}`, { headers });
  const post = (app: RunningApp, path: string, body: unknown, headers = JSON_TYPE): Promise<Response> =>
    fetch(`${app.url}/realtime/admin/${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
  const told = async (response: Promise<Response>): Promise<any> => {
    const answer = await response;
    return { status: answer.status, ...((await answer.json()) as object) };
  };

  it('is not there unless it is configured', async () => {
    const running = await startApp(platform, { imports: [RealtimeModule.forRoot({ auth: anonymous() })] });
    dispose.push(() => running.close());
    for (const path of ['', '/stream', '/connections']) expect((await get(running, path)).status).toBe(404);
  });

  it('tells wrong options as the application starts', async () => {
    const wrong = { admin: { guards: [1], readOnly: 'yes', other: 1 } } as unknown as RealtimeModuleOptions;
    const told = (await bootFailure(platform, { imports: [RealtimeModule.forRoot(wrong)] })).join('\n');
    for (const path of ['admin.guards[0]', 'admin.readOnly', 'admin.other']) expect(told).toContain(path);
    const none = { admin: {} } as unknown as RealtimeModuleOptions;
    expect((await bootFailure(platform, { imports: [RealtimeModule.forRoot(none)] })).join()).toContain('admin.guards');
  });

  it('is for those whom the guards let in, and so is all that is behind', async () => {
    const app = await start({ admin: { guards: [WordGuard], readOnly: false } });
    const paths = ['', '/stream', '/tail?channel=news', '/connections', '/channel?name=news'];
    for (const path of paths) {
      expect((await get(app, path, {})).status).toBe(403);
      expect((await get(app, path, { authorization: 'Bearer wrong' })).status).toBe(403);
    }
    for (const path of ['disconnect', 'publish']) {
      expect((await post(app, path, {}, { ...JSON_TYPE, authorization: '' })).status).toBe(403);
    }
  });

  it('is one document that may load nothing, run nothing else and be framed by nobody', async () => {
    const app = await start();
    const response = await get(app, '');
    expect(response.status).toBe(200);
    const policy = response.headers.get('content-security-policy')!;
    for (const part of ["default-src 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"]) {
      expect(policy).toContain(part);
    }
    expect(policy).not.toContain('unsafe');
    expect(response.headers.get('cache-control')).toBe('no-store');
    const page = await response.text();
    expect(page).not.toMatch(/\b(src|href)="(?!#)/);
    const head = await fetch(`${app.url}/realtime/admin`, { method: 'HEAD', headers: WORD });
    expect([head.status, await head.text()]).toEqual([200, '']);
    expect((await post(app, '', {})).status).toBe(405);
  });

  it('shows nobody else what it shows: no page of another origin, whatever `origins` says', async () => {
    const app = await start({ origins: '*', admin: { guards: [WordGuard], readOnly: false } });
    const elsewhere = { origin: 'https://evil.example' };
    const page = await get(app, '', { ...WORD, ...elsewhere });
    expect(page.headers.get('access-control-allow-origin')).toBeNull();
    for (const path of ['/stream', '/connections', '/channel?name=news', '/tail?channel=news']) {
      expect((await get(app, path, { ...WORD, ...elsewhere })).status).toBe(403);
      expect((await get(app, path, { ...WORD, 'sec-fetch-site': 'cross-site' })).status).toBe(403);
      expect((await get(app, path, { ...WORD, 'sec-fetch-site': 'same-site' })).status).toBe(403);
    }
  });

  it('acts for no page of another origin, and for nothing but JSON', async () => {
    const app = await start({ admin: { guards: [WordGuard], readOnly: false } });
    const wish = { channel: 'news', event: 'note', data: 1 };
    for (const headers of [
      { origin: 'https://evil.example' },
      { origin: 'null' },
      { 'sec-fetch-site': 'cross-site', origin: app.url },
      { 'sec-fetch-site': 'none' },
    ]) {
      expect(await told(post(app, 'publish', wish, { ...JSON_TYPE, ...headers }))).toMatchObject({
        status: 403,
        error: { code: 'origin_refused' },
      });
    }
    expect((await post(app, 'publish', wish, { ...WORD, 'content-type': 'text/plain' })).status).toBe(415);
    const own = { 'sec-fetch-site': 'same-origin', origin: app.url };
    expect((await post(app, 'publish', wish, { ...JSON_TYPE, ...own })).status).toBe(200);
  });

  it('is read-only unless it was told otherwise', async () => {
    const app = await start();
    const peer = await connect(app, '/realtime', as('ada'));
    const { items } = await told(get(app, '/connections'));
    const wishes = [
      ['disconnect', { connection: items[0].id }],
      ['publish', { channel: 'news', event: 'note', data: 1 }],
    ] as const;
    for (const [path, wish] of wishes) {
      expect(await told(post(app, path, wish))).toMatchObject({ status: 403, error: { code: 'forbidden' } });
    }
    expect((await (await Watch.open(app, 'stream')).first<Hello>('hello')).readOnly).toBe(true);
    await peer.close();
  });

  it('tells what the node is and does, with its past', async () => {
    const app = await start();
    const peer = await connect(app, '/realtime', as('ada'));
    await peer.request('$subscribe', { channel: 'chat.tea' });
    const watch = await Watch.open(app, 'stream');
    const hello = await watch.first<Hello>('hello');
    const past = await watch.first<Past>('past');
    expect(past.node).toBe(hello.node);
    expect(past.samples.length).toBeGreaterThan(0);
    const report = await watch.first<NodeReport>('node');
    expect(report).toMatchObject({
      node: hello.node,
      connections: { websocket: 1 },
      health: { status: 'up', ready: true, broker: { name: 'memory', available: true } },
      channels: { total: 1, top: [{ name: 'chat.tea', pattern: 'chat.:room', subscribers: 1 }] },
      members: 1,
    });
    expect(hello.checks).toContain('admin');
    await app.app.get(RealtimeService).publish('chat.tea', 'message', 'hello');
    const later = await watch.first<NodeReport>('node', ({ channels }) => channels.top[0]!.offset > 0);
    expect(later.sample.slot).toBeGreaterThanOrEqual(report.sample.slot);
    watch.close();
    await peer.close();
  });

  it('finds connections by user, address and transport, tells of one, and ends it', async () => {
    const app = await start({ admin: { guards: [WordGuard], readOnly: false } });
    // Names that no random id contains.
    const zoe = await connect(app, '/realtime', as('zoe'));
    const bob = await connect(app, '/realtime', as('bob'));
    await zoe.request('$subscribe', { channel: 'chat.tea' });
    const search = (query: string): Promise<any> => told(get(app, `/connections?${query}`));
    expect(await search('')).toMatchObject({ total: 2, matching: 2, page: 1, pages: 1 });
    const found = await search('text=ZO&transport=websocket');
    expect(found).toMatchObject({ matching: 1, items: [{ userId: 'zoe', ip: '127.0.0.1', transport: 'websocket' }] });
    expect(await search('text=127.0.0')).toMatchObject({ matching: 2 });
    expect(await search('text=nobody')).toMatchObject({ total: 2, matching: 0, items: [] });
    expect(await search('transport=sse')).toMatchObject({ matching: 0 });
    expect(await search('page=99')).toMatchObject({ page: 1 });
    const { id } = found.items[0];
    expect(await search(`id=${id}`)).toMatchObject({
      id,
      userId: 'zoe',
      endpoint: '0:/realtime',
      channels: ['chat.tea'],
    });
    expect(await search('id=none')).toMatchObject({ status: 410, error: { code: 'gone' } });
    expect(JSON.stringify([found, await search(`id=${id}`)])).not.toMatch(/token|cookie|pass/i);

    expect((await post(app, 'disconnect', { connection: id })).status).toBe(200);
    expect(await zoe.closed).toEqual({ code: 4403, reason: 'forbidden' });
    expect(await told(post(app, 'disconnect', { connection: 7 }))).toMatchObject({ status: 400 });
    await bob.close();
  });

  it('tells of a channel, gives its history only where asked, publishes, and shows what comes', async () => {
    const app = await start({ admin: { guards: [WordGuard], readOnly: false } });
    const ada = await connect(app, '/realtime', as('ada'));
    await ada.request('$subscribe', { channel: `chat.${HOSTILE}` });
    const name = encodeURIComponent(`chat.${HOSTILE}`);
    const tail = await Watch.open(app, `tail?channel=${name}`);
    await tail.first('started');
    const wish = { channel: `chat.${HOSTILE}`, event: 'note', data: { text: HOSTILE } };
    expect((await post(app, 'publish', wish)).status).toBe(200);
    const shown = { event: 'note', data: JSON.stringify({ text: HOSTILE }), offset: 1 };
    expect(await tail.first('publication')).toMatchObject(shown);
    const members = { count: 1, ids: ['ada'] };
    const channel = await told(get(app, `/channel?name=${name}`));
    expect(channel).toMatchObject({
      channel: `chat.${HOSTILE}`,
      pattern: 'chat.:room',
      members,
      subscribers: { total: 1 },
    });
    expect(channel.publications).toBeUndefined();
    expect(await told(get(app, `/channel?name=${name}&history=1`))).toMatchObject({ publications: [shown] });
    tail.close();
    await ada.close();
  });

  it('knows no channel that is not declared, and none of the nodes themselves', async () => {
    const app = await start({ admin: { guards: [WordGuard], readOnly: false } });
    const other = { status: 404, error: { code: 'unknown_channel' } };
    const reserved = { status: 400, error: { code: 'invalid' } };
    for (const [name, answer] of [
      ['other', other],
      ['$admin', reserved],
      ['$admin.nodes', reserved],
    ] as const) {
      expect(await told(get(app, `/channel?name=${name}`))).toMatchObject(answer);
      expect(await told(get(app, `/tail?channel=${name}`))).toMatchObject(answer);
      expect(await told(post(app, 'publish', { channel: name, event: 'ask', data: {} }))).toMatchObject(answer);
    }
    expect(await told(post(app, 'publish', { channel: 'news', event: '$lost', data: {} }))).toMatchObject(reserved);
    const peer = await connect(app, '/realtime', as('ada'));
    for (const channel of ['$admin', '$admin.nodes']) {
      for (const [event, data] of [
        ['$subscribe', { channel }],
        ['$history', { channel }],
        ['$presence', { channel }],
        ['$publish', { channel, event: 'ask', data: {} }],
      ] as const) {
        expect(await peer.request(event, data)).toMatchObject({ error: { code: 'invalid' } });
      }
    }
    await peer.close();
  });

  it('bounds how many watch', async () => {
    const app = await start();
    const watches = await Promise.all(Array.from({ length: 32 }, () => Watch.open(app, 'stream')));
    expect(await told(get(app, '/stream'))).toMatchObject({ status: 429, error: { code: 'too_many_connections' } });
    watches[0]!.close();
    await until(async () => {
      const answer = await get(app, '/stream');
      await answer.body?.cancel();
      return answer.status === 200;
    }, 'a place');
    for (const watch of watches) watch.close();
  });

  async function fleet(broker: () => Broker): Promise<[RunningApp, RunningApp]> {
    return [await start({ broker: broker() }), await start({ broker: broker() })];
  }

  async function seesBoth([one, two]: readonly [RunningApp, RunningApp]): Promise<void> {
    const peer = await connect(two, '/realtime', as('zoe'));
    await peer.request('$subscribe', { channel: 'chat.tea' });
    const watch = await Watch.open(one, 'stream');
    const { node } = await watch.first<Hello>('hello');
    const other = await watch.first<NodeReport>('node', (report) => report.node !== node);
    expect(other.channels.top).toMatchObject([{ name: 'chat.tea', subscribers: 1 }]);
    expect(await watch.first<Past>('past', (past) => past.node === other.node)).toBeDefined();
    expect(await told(get(one, '/connections?text=zoe'))).toMatchObject({ matching: 1, items: [{ node: other.node }] });
    await peer.close();
    await two.close();
    expect(await watch.first<{ node: string }>('gone')).toEqual({ node: other.node });
    watch.close();
  }

  it('shows all nodes of one broker, and that one went', async () => {
    const broker = memoryBroker();
    await seesBoth(await fleet(() => broker));
  });

  it('shows all nodes of one Redis, and itself where Redis is away', async () => {
    const redis = await RedisServer.start();
    dispose.push(() => redis.dispose());
    const nodes = await fleet(() => redisBroker({ url: redis.url }));
    await seesBoth(nodes);
    const watch = await Watch.open(nodes[0], 'stream');
    await redis.kill();
    const away = await watch.first<NodeReport>('node', ({ health }) => !health.broker.available);
    expect(away.health).toMatchObject({ status: 'degraded', reasons: ['broker'] });
    watch.close();
  });

  it('ends at once with the application, whoever watches', async () => {
    const app = await start();
    const watch = await Watch.open(app, 'stream');
    const tail = await Watch.open(app, 'tail?channel=news');
    await watch.first('node');
    const stopwatch = new Stopwatch();
    await app.close();
    expect(stopwatch.stop()).toBeLessThan(SOON_MS);
    await until(() => watch.ended && tail.ended, 'the end of the streams');
  });

  it('shows that a node drains, to those who watch on another', async () => {
    const broker = memoryBroker();
    const one = await start({ broker });
    const two = await start({ broker, drain: { windowMs: 0, readinessMs: 4_000 } });
    const watch = await Watch.open(one, 'stream');
    const { node } = await watch.first<Hello>('hello');
    const other = await watch.first<NodeReport>('node', (report) => report.node !== node);
    const closing = two.close();
    const is = (ready: boolean) => (report: NodeReport) => report.node === other.node && report.health.ready === ready;
    expect((await watch.first<NodeReport>('node', is(false))).health.status).toBe('up');
    await closing;
    expect(await watch.first<{ node: string }>('gone')).toEqual({ node: other.node });
    watch.close();
  });

  it('shows itself on a node that drains, and takes nobody who would have to go again', async () => {
    const app = await start();
    const watch = await Watch.open(app, 'stream');
    const { node } = await watch.first<Hello>('hello');
    await app.app.get(Hub).drain();
    await until(() => watch.ended, 'the end of the stream');
    expect(await watch.first<{ node: string }>('gone')).toEqual({ node });
    expect(await told(get(app, '/stream'))).toMatchObject({ status: 503, error: { code: 'draining' } });
    expect((await get(app, '')).status).toBe(200);
  });

  it('is found by the audit where nobody guards it', async () => {
    const app = await start({ admin: { guards: [], readOnly: false } });
    expect((await get(app, '', {})).status).toBe(200);
    const found = app.app
      .get(RealtimeService)
      .audit()
      .find(({ check }) => check === 'admin');
    expect(found).toMatchObject({ message: expect.stringContaining('ends connections and publishes') });
  });
});
