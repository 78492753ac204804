import { afterEach, describe, expect, it } from '@jest/globals';
import type { Connection } from '../../../lib/hub/connection.js';
import type { Authenticator, Credentials } from '../../../lib/hub/ports/authenticator.js';
import { TestNode, TOKEN, tokens, type NodeOptions } from './support/node.js';
import { ask, askUpgrade, RawWire } from './support/wire.js';

const nodes: TestNode[] = [];
const wires: RawWire[] = [];
/** What the authenticator was asked. */
let asked: Credentials[] = [];

const auth: Authenticator = {
  ...tokens,
  cookie: 'session',
  query: 'access_token',
  authenticate(credentials) {
    asked.push(credentials);
    return tokens.authenticate(credentials);
  },
};

async function start(options: NodeOptions = {}): Promise<TestNode> {
  const node = await TestNode.start({ auth, ...options });
  nodes.push(node);
  return node;
}

/** The first line of the answer to an upgrade. */
async function upgrade(node: TestNode, path: string, headers?: Record<string, string>): Promise<string> {
  const wire = await RawWire.upgrade(node.port, path, headers);
  wires.push(wire);
  return (await wire.head()).split('\r\n', 1)[0]!;
}

/** The first line of the answer to a request for a stream. */
async function stream(node: TestNode, query = '', headers: Record<string, string> = {}): Promise<string> {
  const wire = await RawWire.open(node.port);
  wires.push(wire);
  const lines = Object.entries({ Host: node.host, ...headers }).map(([name, value]) => `${name}: ${value}`);
  wire.socket.write(`GET /realtime/sse?channels=chat.a${query} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`);
  return (await wire.head()).split('\r\n', 1)[0]!;
}

const SWITCHING = 'HTTP/1.1 101 Switching Protocols';
const OK = 'HTTP/1.1 200 OK';

afterEach(async () => {
  asked = [];
  for (const wire of wires.splice(0)) wire.socket.destroy();
  for (const node of nodes.splice(0)) await node.stop();
});

describe('the credentials of a request', () => {
  it('come from the cookie and the query parameter that the authenticator names, on every wire', async () => {
    const node = await start();
    expect(await upgrade(node, '/realtime', { Cookie: `a=1; session=${TOKEN.ann}; b=2` })).toBe(SWITCHING);
    expect(await upgrade(node, `/realtime?access_token=${TOKEN.bob}`)).toBe(SWITCHING);
    expect(await stream(node, '', { Cookie: `session="${TOKEN.ann}"` })).toBe(OK);
    expect(await stream(node, `&access_token=${TOKEN.bob}`)).toBe(OK);
    expect((await node.connected(4)).map(({ user }) => user?.id)).toEqual(['ann', 'bob', 'ann', 'bob']);
    expect(asked.map(({ source }) => source)).toEqual(['cookie', 'query', 'cookie', 'query']);
  });

  it('are not looked for in cookies and the query where nothing names a place', async () => {
    const node = await start({ auth: tokens });
    const headers = { Cookie: `session=${TOKEN.ann}` };
    const path = `/realtime/sse?channels=chat.a&access_token=${TOKEN.ann}`;
    expect((await ask(node.port, path, { headers })).status).toBe(401);
  });

  it('are those that the peer gave itself, before a cookie that its browser added', async () => {
    const node = await start();
    const cookie = { Cookie: `session=${TOKEN.bad}` };
    const query = `?access_token=${TOKEN.old}`;
    for (const [path, headers] of [
      [`/realtime${query}`, { Authorization: `Bearer ${TOKEN.ann}` }],
      [`/realtime${query}`, { 'Sec-WebSocket-Protocol': `bearer, ${TOKEN.ann}` }],
      [`/realtime?access_token=${TOKEN.ann}`, {}],
    ] as const) {
      expect(await upgrade(node, path, { ...cookie, ...headers })).toBe(SWITCHING);
    }
  });

  it('are absent where they are empty, and refused where they are wrong', async () => {
    const node = await start();
    expect(await upgrade(node, '/realtime?access_token=', { Cookie: 'session=' })).toBe(SWITCHING); // its token is awaited
    expect(asked).toEqual([]);
    for (const [path, headers, code] of [
      ['/realtime/sse?channels=chat.a&access_token=', {}, 'unauthenticated'],
      ['/realtime/sse?channels=chat.a', { Cookie: `session=${TOKEN.bad}` }, 'unauthenticated'],
      [`/realtime/sse?channels=chat.a&access_token=${TOKEN.old}`, {}, 'token_expired'],
    ] as const) {
      const { status, json } = await ask(node.port, path, { headers });
      expect([status, json.error.code]).toEqual([401, code]);
    }
    const { status, json } = await askUpgrade(node.port, '/realtime', { Cookie: `session=${TOKEN.bad}` });
    expect([status, json.error.code]).toEqual([401, 'unauthenticated']);
  });
});

describe('a token in the query', () => {
  it('is seen by no guard and no hook, and is not kept', async () => {
    const seen: unknown[] = [];
    const look = (connection: Connection): Promise<void> => {
      seen.push(connection.request?.url, { ...connection.query });
      return Promise.resolve();
    };
    const node = await start({ application: { admit: look, connected: look } });
    await upgrade(node, `/realtime?a=1&access_token=${TOKEN.ann}&b=%20`);
    await node.connected();
    await stream(node, `&access_token=${TOKEN.ann}`);
    await node.connected(2);
    const ofUpgrade = ['/realtime?a=1&b=%20', { a: '1', b: ' ' }];
    const ofStream = ['/realtime/sse?channels=chat.a', { channels: 'chat.a' }];
    expect(seen).toEqual([...ofUpgrade, ...ofUpgrade, ...ofStream, ...ofStream]);
    for (const connection of await node.connected()) expect(JSON.stringify(connection)).not.toContain(TOKEN.ann);
  });

  it('is taken out of the URL also where the request is refused', async () => {
    const urls: (string | undefined)[] = [];
    const node = await start({ accepting: false });
    node.server.prependListener('request', (request, response) => response.once('close', () => urls.push(request.url)));
    const answered = await ask(node.port, `/realtime/sse?channels=chat.a&access_token=${TOKEN.ann}`);
    expect(answered.status).toBe(503);
    const wrong = await ask(node.port, `/realtime/sse?access_token=${TOKEN.ann}`, { method: 'PUT' });
    expect(wrong.status).toBe(405);
    expect(urls).toEqual(['/realtime/sse?channels=chat.a', '/realtime/sse']);
  });
});

describe('a cookie', () => {
  const cookie = { Cookie: `session=${TOKEN.ann}` };

  it('does not let the page of another host in', async () => {
    const node = await start();
    const headers = { ...cookie, Origin: 'https://evil.example' };
    const answers = [
      await askUpgrade(node.port, '/realtime', headers),
      await ask(node.port, '/realtime/sse?channels=chat.a', { headers }),
    ];
    for (const { status, json } of answers) expect([status, json.error.code]).toEqual([403, 'origin_refused']);
    expect(asked).toEqual([]);
  });

  it('lets pages of this host in, which send no Origin for a stream', async () => {
    const node = await start();
    expect(await stream(node, '', cookie)).toBe(OK);
    expect(await stream(node, '', { ...cookie, 'Sec-Fetch-Site': 'same-origin' })).toBe(OK);
    expect(await stream(node, '', { ...cookie, Origin: `http://${node.host}` })).toBe(OK);
    expect(await upgrade(node, '/realtime', { ...cookie, Origin: `http://${node.host}` })).toBe(SWITCHING);
  });

  it('counts for nothing where another page embeds the request, which sends no Origin either', async () => {
    const node = await start();
    for (const site of ['cross-site', 'same-site']) {
      const headers = { ...cookie, 'Sec-Fetch-Site': site };
      const { status, json } = await ask(node.port, '/realtime/sse?channels=chat.a', { headers });
      expect([status, json.error.code]).toEqual([403, 'origin_refused']);
    }
    const own = { 'Sec-Fetch-Site': 'cross-site', Authorization: `Bearer ${TOKEN.ann}` };
    expect(await stream(node, '', own)).toBe(OK);
  });
});
