import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type AddressInfo } from 'node:net';
import {
  RealtimeException,
  RealtimeModule,
  RealtimeService,
  UserIdentity,
  type Authenticator,
  type RealtimeModuleOptions,
} from '../../lib/index.js';
import { secret } from '../support/secrets.js';
import { WatchedLogger } from '../support/watched-logger.js';
import { runCommand as run } from './support/command-line.js';
import { startProxy, type HttpProxy } from './support/http-proxy.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';

const TOKEN = secret('token-of-the-command-line');
const WRONG = secret('token-of-somebody-unknown');
const auth: Authenticator = {
  authenticate: async ({ token }) => {
    if (token === WRONG) throw new RealtimeException('unauthenticated');
    return new UserIdentity('ann');
  },
};

describe.each(platforms)('the command line on $name', (platform) => {
  let app: RunningApp;
  let realtime: RealtimeService;
  let env: NodeJS.ProcessEnv;

  beforeAll(async () => {
    const module = RealtimeModule.forRoot({
      auth,
      channels: { 'chat.:room': { publish: true }, news: {} },
      origins: ['https://app.example'],
    });
    app = await startApp(platform, { imports: [module] }, (created) => created.useLogger(new WatchedLogger()));
    realtime = app.app.get(RealtimeService);
    env = { REALTIME_URL: `${app.url}/realtime`, REALTIME_TOKEN: TOKEN };
  });
  afterAll(() => app.close());

  it('tells how it is used, and what was wrong', async () => {
    expect(await run([])).toMatchObject({ code: 0, out: expect.stringContaining('tail CHANNEL'), err: '' });
    expect(await run(['-h'])).toEqual(await run([]));
    expect(await run(['tail', '-h'])).toEqual(await run(['tail', '--help']));
    expect(await run(['tail', '--help'])).toMatchObject({ code: 0, out: expect.stringContaining('--last N') });
    for (const [args, wrong] of [
      [['dance'], 'No command "dance"'],
      [['tail'], 'tail takes: CHANNEL'],
      [['tail', 'news', '--last', 'x'], '--last is a whole number from 0, not "x"'],
      [['tail', 'news', '--count', '2.5'], '--count is a whole number from 1, not "2.5"'],
      [['doctor', '--idle', 'long'], '--idle is a number from 0, not "long"'],
      [['stats', '--transport', 'sse'], '--transport'],
      [['tail', 'news', '--loudly'], '--loudly'],
      [['tail', 'news', '--url', 'ftp://x'], '--url is http or https'],
      [['tail', 'news', '--transport', 'pigeon'], '--transport is one of websocket, sse, long-polling'],
    ] as const) {
      expect(await run(args)).toMatchObject({ code: 2, out: '', err: expect.stringContaining(wrong) });
    }
  });

  it.each(['websocket', 'sse', 'long-polling'])('tails a channel over %s, from its history on', async (transport) => {
    const room = `chat.${transport}`;
    for (const n of [1, 2, 3]) await realtime.publish(room, 'said', n);
    let said = false;
    const ran = await run(['tail', room, '--last', '2', '--transport', transport], env, (out, err) => {
      if (!said && out.split('\n').length === 3 && err.includes('from')) {
        said = true;
        void realtime.publish(room, 'said', 'live');
      }
      return out.includes('"live"');
    });
    const lines = ran.out.trim().split('\n');
    expect(lines.map((line) => JSON.parse(line).data)).toEqual([2, 3, 'live']);
    expect(ran).toMatchObject({ code: 0, err: expect.stringContaining(`over ${transport}`) });
  });

  it('publishes as a peer does, and says why it may not', async () => {
    const first = await run(['publish', 'chat.a', 'said', '{"n":1}', '--key', 'once'], env);
    expect(first).toMatchObject({ code: 0, err: '' });
    expect(await run(['publish', 'chat.a', 'said', '{"n":1}', '--key', 'once'], env)).toEqual(first);
    const { publications } = await realtime.history('chat.a');
    expect(publications.map(({ data }) => data)).toEqual([{ n: 1 }]);
    const refused = { code: 1, out: '', err: expect.stringContaining('forbidden') };
    expect(await run(['publish', 'news', 'said', 'x'], env)).toMatchObject(refused);
    expect(await run(['tail', 'nothing'], env)).toMatchObject({
      code: 1,
      err: expect.stringContaining('unknown_channel'),
    });
  });

  it('measures connections and fan-out', async () => {
    const { code, out, err } = await run(
      ['bench', 'chat.bench', '--connections', '10', '--messages', '5', '--open-rate', '200', '--rate', '100'],
      env,
    );
    expect(out).toMatch(/10 of 10 connections were subscribed\n {2}p50 /);
    expect(out).toContain('5 of 5 publications were answered');
    expect(out).toMatch(/50 of 50 deliveries came\n {2}p50 .*\n.*█/);
    expect([code, err]).toEqual([0, '']);
    const refused = await run(['bench', 'news', '--connections', '1', '--messages', '2'], env);
    expect(refused).toMatchObject({ code: 1, err: expect.stringContaining('publications that failed: 2 times') });
  });

  it('says where numbers are not served', async () => {
    expect(await run(['stats', '--once'], env)).toMatchObject({
      code: 1,
      err: expect.stringContaining('is not there'),
    });
  });

  it('finds a hub well', async () => {
    const pages = ['--origin', 'https://app.example'];
    const { code, out } = await run(['doctor', '--channel', 'news', '--idle', '0.2', ...pages], env);
    expect(out.match(/^\S+ +[a-z ]+(?=:)/gm)).toEqual([
      'ok      endpoint',
      'ok      websocket',
      'ok      origin',
      'ok      event stream',
      'ok      long polling',
    ]);
    expect(code).toBe(0);
  }, 60_000);

  it('says where nothing could be checked, where pages are refused, and that a busy stream was not idle', async () => {
    const stranger = await run(['doctor', '--channel', 'news', '--idle', '0'], { ...env, REALTIME_TOKEN: WRONG });
    expect(stranger.code).toBe(1);
    let busy = true;
    const talking = (async () => {
      while (busy) {
        await realtime.publish('chat.busy', 'said', 1);
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    const { out } = await run(['doctor', '--channel', 'chat.busy', '--idle', '0.2'], env);
    busy = false;
    await talking;
    expect(out).toContain(`warning origin: pages of ${app.url} are refused like those of other hosts`);
    expect(out).toMatch(/\? +event stream: first event after \d+ ms; whether an idle stream stays is not known/);
  });

  it("reads the refusals of rejectMode 'close'", async () => {
    let closing: RunningApp | undefined;
    const found = async (options: RealtimeModuleOptions, args: readonly string[] = []): Promise<unknown[]> => {
      const module = RealtimeModule.forRoot({ rejectMode: 'close', ...options });
      closing = await startApp(platform, { imports: [module] });
      try {
        const { out } = await run(['doctor', '--url', `${closing.url}/realtime`, '--idle', '0.2', '--json', ...args]);
        return (JSON.parse(out) as { check: string }[]).filter(({ check }) => /^(websocket|origin)$/.test(check));
      } finally {
        await closing.close();
      }
    };
    expect(await found({ origins: ['https://app.example'] }, ['--origin', 'https://app.example'])).toEqual([
      { check: 'websocket', state: 'ok', message: expect.stringContaining('and open after 0.2 s') },
      { check: 'origin', state: 'ok', message: 'pages of other hosts are refused' },
    ]);
    expect(await found({ origins: '*' })).toEqual([
      { check: 'websocket', state: 'ok', message: expect.stringContaining('and open after 0.2 s') },
      { check: 'origin', state: 'warning', message: 'pages of any host may connect', fix: expect.any(String) },
    ]);
    const nobody: Authenticator = {
      authenticate: () => Promise.reject(new RealtimeException('forbidden')),
    };
    expect(await found({ auth: nobody, origins: '*' }, ['--token', TOKEN])).toEqual([
      { check: 'websocket', state: 'unknown', message: 'the hub refuses with 4403 forbidden' },
      { check: 'origin', state: 'unknown', message: 'the hub refuses for another reason: 4403 forbidden' },
    ]);
  });

  it.each([['publish', 'chat.a', 'said', 'x'], ['bench', 'chat.a', '--connections', '1'], ['stats'], ['doctor']])(
    'is left soon where %s is interrupted while nobody answers',
    async (...args) => {
      const interrupt = new AbortController();
      const silent = createServer((socket) => {
        socket.on('error', () => undefined);
        socket.once('data', () => interrupt.abort());
      }).listen(0, '127.0.0.1');
      await once(silent, 'listening');
      const url = `http://127.0.0.1:${(silent.address() as AddressInfo).port}/realtime`;
      const { code } = await run([...args, '--url', url], env, undefined, interrupt);
      expect(code).toBe(130);
      const closed = once(silent, 'close');
      silent.close(); // which ends with the last connection
      await closed;
    },
  );

  describe('behind a proxy', () => {
    const proxies: HttpProxy[] = [];

    async function proxy(
      pass: (answer: IncomingMessage, response: ServerResponse, path: string) => void,
    ): Promise<NodeJS.ProcessEnv> {
      const started = await startProxy(() => app.url, pass);
      proxies.push(started);
      return { ...env, REALTIME_URL: `${started.url}/realtime` };
    }

    afterAll(() => {
      for (const started of proxies) started.close();
    });

    it('finds what does not pass', async () => {
      const holding = await proxy((answer, response) => {
        const chunks: Buffer[] = []; // an answer is passed on once it is whole
        answer.on('data', (chunk: Buffer) => chunks.push(chunk));
        answer.on('end', () => response.writeHead(answer.statusCode!, answer.headers).end(Buffer.concat(chunks)));
      });
      const { code, out } = await run(['doctor', '--channel', 'news', '--idle', '0.2', '--json'], holding);
      const findings: { check: string; state: string; fix?: string }[] = JSON.parse(out);
      const states = Object.fromEntries(findings.map(({ check, state }) => [check, state]));
      expect(states).toMatchObject({ endpoint: 'ok', websocket: 'failure', 'event stream': 'failure' });
      for (const { state, fix } of findings) expect(fix !== undefined).toBe(state === 'failure' || state === 'warning');
      expect(code).toBe(1);
    }, 60_000);

    it('tells a stream that fails from one that is kept back', async () => {
      const stream = { check: 'event stream', state: 'failure' };
      const findings = async (from: NodeJS.ProcessEnv): Promise<unknown> =>
        JSON.parse((await run(['doctor', '--channel', 'news', '--idle', '0.2', '--json'], from)).out);
      const resetting = await proxy((answer, response, path) => {
        if (path.includes('/sse')) response.destroy();
        else answer.pipe(response.writeHead(answer.statusCode!, answer.headers));
      });
      const message = expect.stringMatching(/^a stream cannot be opened: /);
      expect(await findings(resetting)).toContainEqual({ ...stream, message });
      const ending = await proxy((answer, response, path) => {
        response.writeHead(answer.statusCode!, answer.headers);
        if (path.includes('/sse')) response.end();
        else answer.pipe(response);
      });
      expect(await findings(ending)).toContainEqual({ ...stream, message: 'before its first event a stream ends' });
    });

    it('is left soon where it is interrupted, with the code of the signal', async () => {
      const interrupt = new AbortController();
      const passing = await proxy((answer, response, path) => {
        answer.pipe(response.writeHead(answer.statusCode!, answer.headers));
        if (path.includes('/sse')) answer.once('data', () => interrupt.abort('SIGTERM'));
      });
      const ran = await run(['doctor', '--channel', 'news', '--idle', '600'], passing, undefined, interrupt);
      expect(ran).toEqual({ code: 143, out: '', err: '' });
    });

    it.each([
      [404, 'Name the path of the module'],
      [502, 'A proxy does not reach the hub'],
    ])('finds that there is no hub: %i', async (status, fix) => {
      const { REALTIME_URL: url } = await proxy((_answer, response) => response.writeHead(status).end());
      const { code, out } = await run(['doctor', '--url', url!], {});
      expect(out).toMatch(new RegExp(`^FAILED {2}endpoint: .* answers ${status}`));
      expect(out).toContain(fix);
      expect(code).toBe(1);
    });
  });
});

it('gives up where there is no hub, and says why', async () => {
  const gone = createServer().listen(0, '127.0.0.1');
  await once(gone, 'listening');
  const { port } = gone.address() as AddressInfo;
  gone.close();
  await once(gone, 'close');
  const commands = [
    ['publish', 'chat.a', 'said', 'x'],
    ['tail', 'chat.a'],
    ['bench', 'chat.a', '--connections', '1'],
  ];
  const all = await Promise.all(commands.map((args) => run([...args, '--url', `http://127.0.0.1:${port}/realtime`])));
  for (const { code, out, err } of all) {
    expect(code).toBe(1);
    expect(out + err).toMatch(/the hub cannot be reached: .*\S/);
  }
  expect(all[1]!.err).toContain('coming back');
}, 30_000);
