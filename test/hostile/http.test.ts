import { afterEach, describe, expect, it } from '@jest/globals';
import { Controller, Inject, Sse, type MessageEvent } from '@nestjs/common';
import { concat, NEVER, of, type Observable } from 'rxjs';
import { LastEventId, RealtimeModule, RealtimeService, RealtimeSse } from '../../lib/index.js';
import { refusedStream, openStream } from '../e2e/support/event-stream.js';
import { platforms, startApp, type RunningApp } from '../e2e/support/platforms.js';
import { as, tokenOf, tokenUsers } from '../e2e/support/token-users.js';
import { connect } from '../e2e/support/gateway-peer.js';
import { RawWire } from '../unit/transports/support/wire.js';

/** What a name must not do to the stream that it stands in. */
const NAMES = [
  'a\nb',
  'a\r\nid: 1~0:forged-9-x',
  'a\rdata: forged',
  '\n\nevent: forged',
  'a\u2028b',
  'a\u0085b',
  'a\u0000b',
  '\u00ef\u00bb\u00bf',
];
const DATA = { text: 'a\nb\r\ndata: forged\rc\u2028d\u2029e\u0000' };

@Controller()
class StreamController {
  constructor(@Inject(RealtimeService) private readonly realtime: RealtimeService) {}

  @Sse('channel')
  channel(@LastEventId() since?: string): Observable<MessageEvent> {
    return this.realtime.events('open', since === undefined ? {} : { since });
  }

  @RealtimeSse('own')
  own(): Observable<MessageEvent> {
    const events = NAMES.map((type) => ({ type, id: type, data: DATA.text }));
    return concat(of(...events), NEVER);
  }
}

let dispose: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of dispose.reverse()) await end();
  dispose = [];
});

async function start(
  platform: (typeof platforms)[number],
  options: Parameters<typeof RealtimeModule.forRoot>[0] = {},
): Promise<RunningApp> {
  const channels = { open: {}, secret: { subscribe: false }, 'room.:n': {} };
  const app = await startApp(platform, {
    imports: [RealtimeModule.forRoot({ channels, ...options })],
    controllers: [StreamController],
  });
  dispose.push(() => app.close());
  return app;
}

async function raw(port: number, bytes: string): Promise<RawWire> {
  const wire = await RawWire.open(port);
  dispose.push(() => void wire.socket.destroy());
  wire.socket.write(bytes, 'latin1');
  return wire;
}

interface Event {
  id?: string;
  event?: string;
  data?: string;
}

/** Reads a stream as the HTML standard says: CR, LF and CRLF end a line, and an empty line ends an event. */
async function readEvents(port: number, path: string, count: number): Promise<Event[]> {
  const wire = await raw(port, `GET ${path} HTTP/1.0\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n`);
  const events = (): Event[] => {
    const [, body = ''] = wire.text.split(/\r\n\r\n(.*)/s);
    const found: Event[] = [];
    let event: Event = {};
    for (const line of body.split(/\r\n|\r|\n/)) {
      if (line === '') {
        if (event.data !== undefined) found.push(event);
        event = {};
      }
      const [, name = '', value = ''] = /^([^:]*): ?(.*)$/su.exec(line) ?? [];
      if (name === 'data') event.data = event.data === undefined ? value : `${event.data}\n${value}`;
      else if (name === 'id' || name === 'event') event[name] = value;
    }
    return found;
  };
  await wire.until(() => events().length >= count);
  return events();
}

describe.each(platforms)('line ends in what is published, on $name', (platform) => {
  async function publishAll(app: RunningApp): Promise<void> {
    const realtime = app.app.get(RealtimeService);
    for (const name of NAMES) await realtime.publish('open', name, DATA);
  }

  it.each([
    ['a stream', '/realtime/sse?channels=open'],
    ['a stream of several channels', '/realtime/sse?channels=open,room.1'],
    ['events() of a controller', '/channel'],
  ])('forge no field of %s', async (_, path) => {
    const app = await start(platform);
    await app.app.get(RealtimeService).publish('open', 'first', 0);
    const { position } = await app.app.get(RealtimeService).history('open');
    await publishAll(app);
    const at = `${path}${path.includes('?') ? '&' : '?'}lastEventId=${encodeURIComponent(`1~0:${position}`)}`;
    const [opened, ...events] = await readEvents(app.port, at, NAMES.length + 1);
    expect(opened!.event).toBe('$open');
    expect(events).toHaveLength(NAMES.length);
    events.forEach(({ id, event, data }, i) => {
      expect(event).toBe(NAMES[i]!.replaceAll('\r', '%0D').replaceAll('\n', '%0A'));
      expect(id).toMatch(new RegExp(`^1~0:${position.slice(0, 6)}-${i + 2}-[0-9a-z]+(!1:.*)?$`));
      expect(JSON.parse(data!)).toEqual(DATA);
    });
  });

  it('forge no field of a stream of frames', async () => {
    const app = await start(platform);
    await publishAll(app);
    const { position } = await app.app.get(RealtimeService).history('open');
    const first = position.replace(/-.*/, '-0-0');
    const path = `/realtime/sse?channels=open&format=frames&lastEventId=1~0:${first}`;
    const [, ...events] = await readEvents(app.port, path, NAMES.length + 1);
    expect(events.map(({ data }) => JSON.parse(data!))).toMatchObject(NAMES.map((event) => ({ event, data: DATA })));
    for (const { event } of events) expect(event).toBeUndefined();
  });

  it('forge no field of @RealtimeSse', async () => {
    const app = await start(platform);
    const events = await readEvents(app.port, '/own', NAMES.length);
    expect(events).toHaveLength(NAMES.length);
    for (const { event, data } of events) {
      expect(event).not.toMatch(/[\r\n]/);
      expect(data).toBe(DATA.text.replace(/\r\n|\r/g, '\n'));
    }
  });
});

describe.each(platforms)('a forged cursor on $name', (platform) => {
  it('reads no other channel, skips no hook, and is at worst ignored', async () => {
    const app = await start(platform);
    const realtime = app.app.get(RealtimeService);
    const secret = await realtime.publish('secret', 'hidden', 'secret');
    const open = await realtime.publish('open', 'shown', 'open');
    const cursors: [cursor: string, state: string][] = [
      [`1~0:${secret}`, 'used'], // another channel's position
      [`1~0:${open}!1:${secret}`, 'used'], // a channel that was not asked for
      [`1~0:${open.replace(/-\d+-/, '-9007199254740991-')}`, 'used'],
      [`1~0:${open.replace(/-[0-9a-z]+$/, '-forged')}`, 'used'],
      ['1~0:__proto__', 'ignored'],
      [`1~${'0'.repeat(5_000)}`, 'ignored'],
      ['\u00ff\u00fe', 'ignored'],
    ];
    for (const [cursor, state] of cursors) {
      const stream = await openStream(`${app.url}/realtime/sse?channels=open`, { 'Last-Event-ID': cursor });
      const opened = JSON.parse((await stream.event('$open')).data!);
      expect([opened.cursor, Object.keys(opened.channels)]).toEqual([state, ['open']]);
      await realtime.publish('secret', 'hidden', 'secret');
      await realtime.publish('open', 'shown', cursor.length);
      for (let data: unknown; data !== cursor.length;) {
        const next = await stream.event();
        expect(next.event).toMatch(/^(shown|\$lost)$/);
        data = JSON.parse(next.data!);
      }
      stream.close();
    }
    const refused = await refusedStream(`${app.url}/realtime/sse?channels=secret`, {
      'Last-Event-ID': `1~0:${secret}`,
    });
    expect(refused.status).toBe(403);
    const pass = 'p'.repeat(38); // that nobody gave
    const gone = await refusedStream(`${app.url}/realtime/sse?channels=open`, {
      'Last-Event-ID': `1.${pass}~0:${open}`,
    });
    expect(gone.status).toBe(410);
  });

  it('gives a WebSocket nothing either: a position is no right', async () => {
    const app = await start(platform);
    const secret = await app.app.get(RealtimeService).publish('secret', 'hidden', 'secret');
    const peer = await connect(app);
    for (const [event, data] of [
      ['$subscribe', { channel: 'secret', since: secret }],
      ['$history', { channel: 'secret', since: secret }],
      ['$presence', { channel: 'secret' }],
    ] as const) {
      expect(await peer.request(event, data)).toMatchObject({ error: { code: 'forbidden' } });
    }
    await peer.close();
  });
});

describe.each(platforms)('a smuggled request on $name', (platform) => {
  const host = 'Host: x\r\n';
  const second = `GET /smuggled HTTP/1.1\r\n${host}\r\n`;
  const upgrade =
    `Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n` +
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n';

  /** How many responses came on a connection that is over. */
  const responses = (wire: RawWire): number => wire.text.match(/HTTP\/1\.1 \d\d\d /g)?.length ?? 0;

  it.each([
    ['two lengths', 'Content-Length: 0\r\nContent-Length: 5\r\n'],
    ['a list of lengths', 'Content-Length: 0, 5\r\n'],
    ['a length and chunks', 'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n'],
    ['chunks that are not last', 'Transfer-Encoding: chunked, identity\r\n'],
    ['a space before the colon', 'Transfer-Encoding : chunked\r\n'],
    ['a folded line', 'X: y\r\n Transfer-Encoding: chunked\r\n'],
    ['a bare line feed', 'X: y\nTransfer-Encoding: chunked\r\n'],
    ['a bare carriage return', 'X: y\rTransfer-Encoding: chunked\r\n'],
    ['a zero byte', 'X: \0\r\n'],
  ])('is not served behind a request whose body has %s', async (_, lines) => {
    const { port } = await start(platform);
    for (const [start, more] of [
      ['GET /realtime/sse?channels=open', ''],
      ['POST /realtime/sse?channels=open', ''],
      ['GET /realtime', upgrade],
    ]) {
      const wire = await raw(port, `${start} HTTP/1.1\r\n${host}${lines}${more}\r\n0\r\n\r\n${second}`);
      await wire.ended;
      expect([wire.text.slice(0, 13), responses(wire)]).toEqual(['HTTP/1.1 400 ', 1]);
    }
  });

  it('is not served behind an upgrade that was refused', async () => {
    const { port } = await start(platform, { auth: { ...tokenUsers, firstFrame: false } });
    for (const length of ['', 'Content-Length: 5\r\n', 'Transfer-Encoding: chunked\r\n']) {
      const wire = await raw(port, `GET /realtime HTTP/1.1\r\n${host}${upgrade}${length}\r\n${second}`);
      await wire.ended;
      expect([wire.text.slice(0, 13), responses(wire)]).toEqual(['HTTP/1.1 401 ', 1]);
    }
  });

  it('is read as frames behind an upgrade that was accepted', async () => {
    const { port } = await start(platform);
    const wire = await raw(port, `GET /realtime HTTP/1.1\r\n${host}${upgrade}Content-Length: 5\r\n\r\n${second}`);
    await wire.ended; // "GET " are no first bytes of a frame
    expect([wire.text.slice(0, 13), responses(wire)]).toEqual(['HTTP/1.1 101 ', 1]);
  });

  it('stays inside the body of a request that offers another protocol', async () => {
    const { port } = await start(platform);
    const body = `${second}${second}`;
    const offer = 'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n';
    const wire = await raw(
      port,
      `POST /nothing HTTP/1.1\r\n${host}${offer}Content-Type: text/plain\r\nContent-Length: ${body.length}\r\n\r\n${body}` +
        `GET /last HTTP/1.1\r\n${host}Connection: close\r\n\r\n`,
    );
    await wire.ended;
    expect(responses(wire)).toBe(2);
    expect(wire.text).not.toContain('smuggled');
  });

  it('finds no second token, origin or host: what is given twice is refused, or the first counts', async () => {
    const { port } = await start(platform, { auth: tokenUsers });
    const ask = async (lines: string): Promise<string> => {
      const wire = await raw(port, `GET /realtime/sse?channels=open HTTP/1.1\r\n${lines}Connection: close\r\n\r\n`);
      await wire.until(({ text }) => text.includes('\r\n\r\n'));
      return wire.text.slice(9, 12);
    };
    const token = `Authorization: Bearer ${tokenOf('ada')}\r\n`;
    expect(await ask(`${host}${token}`)).toBe('200');
    expect(await ask(`${host}Host: evil.example\r\n${token}Origin: http://evil.example\r\n`)).toBe('403');
    expect(await ask(`${host}${token}Origin: http://evil.example\r\nOrigin: http://x\r\n`)).toBe('403');
    expect(await ask(`${host}Authorization: Basic eDp5\r\n${token}`)).toBe('401');
    expect(await ask(`Host: x, evil.example\r\n${token}Origin: http://evil.example\r\n`)).toBe('403');
    expect(await ask(`${host}${token}X-Forwarded-Host: evil.example\r\nOrigin: http://evil.example\r\n`)).toBe('403');
  });
});

describe.each(platforms)('a token on $name', (platform) => {
  it('is in no answer, log line or error, wherever it was sent', async () => {
    const app = await start(platform, { auth: tokenUsers });
    const token = tokenOf('ada');
    const query = `token=${token}&access_token=${token}`;
    await refusedStream(`${app.url}/realtime/sse?channels=open&${query}`);
    await refusedStream(`${app.url}/realtime/sse?channels=open`, { Authorization: `Bearer ${token} ${token}` });
    await refusedStream(`${app.url}/realtime/sse?channels=open&client=${token.repeat(9)}`, as('ada').headers);
    const peer = await connect(app, '/realtime', as('ada'));
    for (const frame of [`{"id":1,"event":"${token}"}`, token, `{"id":2,"event":"$subscribe","data":"${token}"}`]) {
      peer.send(frame);
    }
    peer.send({ id: 3, event: '$subscribe', data: { channel: token } });
    peer.send({ id: 4, event: '$auth', data: { token: [token] } });
    peer.send({ id: 5, event: '$auth', data: { token: `${token}-of-somebody-else` } });
    const answers = await peer.settle();
    expect(answers.map(({ error, data }) => error?.code ?? data?.code).sort()).toEqual(
      ['unknown_event', 'bad_frame', 'invalid', 'unknown_channel', 'invalid', 'forbidden'].sort(),
    );
    await peer.close();
  });
});
