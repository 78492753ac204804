import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { Browser, Page } from 'playwright-core';
import { FaultyLink } from '../../lib/testing/faulty-link.js';
import { launchChromium } from './support/chromium.js';
import { startDemo, type Demo } from './support/demo.js';

jest.setTimeout(90_000); // a busy machine

let demo: Demo;
let browser: Browser;
let network: FaultyLink;
let pages: Page[] = [];
let complaints: string[] = [];
let rooms = 0;

beforeAll(async () => {
  [demo, browser] = await Promise.all([startDemo(), launchChromium()]);
}, 120_000);

beforeEach(async () => {
  network = await FaultyLink.open(Number(new URL(demo.url).port));
});

afterEach(async () => {
  await Promise.all(pages.map((page) => page.context().close()));
  await network.close();
  pages = [];
  complaints = [];
});

afterAll(async () => {
  await browser.close();
  await demo.stop();
});

/** A page behind the network with a client in it, which follows a room of the chat. */
async function openPage(options: Record<string, unknown>, room: string, context = browser.newContext()): Promise<Page> {
  const page = await (await context).newPage();
  pages.push(page);
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
  });
  await page.route('**/favicon.ico', (route) => route.fulfill({ status: 204 }));
  await page.goto(`http://127.0.0.1:${network.port}/style.css`); // no client of its own
  await page.evaluate(
    async ([given, name]) => {
      const at = '/lib/client/index.js';
      const { RealtimeClient } = await import(at);
      const client = new RealtimeClient('/realtime', { firstByteMs: 2_000, ...(given as object) });
      const seen: string[] = [];
      const chat = client.channel(`chat.${name}`);
      chat.on('message', ({ text }: { text: string }) => seen.push(text));
      chat.on('lost', ({ reason }: { reason: string }) => seen.push(`lost: ${reason}`));
      client.on('error', (error: Error) => seen.push(`error: ${error.message}`));
      Object.assign(globalThis, { client, chat, seen });
      await chat.subscribe();
    },
    [options, room] as const,
  );
  return page;
}

const transportOf = (page: Page): Promise<unknown> => page.evaluate('client.transport');

const uses = (page: Page, transport: string): Promise<unknown> =>
  page.waitForFunction(`client.state === 'open' && client.transport === '${transport}'`, null, { timeout: 60_000 });

const hears = (page: Page, texts: string[]): Promise<unknown> =>
  page.waitForFunction((all) => JSON.stringify((globalThis as any).seen) === all, JSON.stringify(texts));

/** Says something in a room, by a client of this process. */
const say = (page: Page, text: string): Promise<unknown> =>
  page.evaluate((said) => (globalThis as any).chat.publish('message', { name: 'Ada', text: said }), text);

const newRoom = (): string => `way${++rooms}`;

/** What a browser itself prints about an upgrade that fails is no error of the client. */
const own = (): string[] => complaints.filter((text) => !/^WebSocket connection to .* failed/.test(text));

describe('a page whose network', () => {
  it('passes WebSocket uses it, and loads nothing else', async () => {
    const page = await openPage({}, newRoom());
    expect(await transportOf(page)).toBe('websocket');
    expect(network.requests.filter((path) => path.includes('http.transports'))).toEqual([]);
    expect(complaints).toEqual([]);
  });

  it('refuses WebSocket uses SSE, and the next page begins with it', async () => {
    network.upgrades = 'refused';
    const room = newRoom();
    const context = browser.newContext();
    const page = await openPage({}, room, context);
    expect(await transportOf(page)).toBe('sse');
    const upgrades = () => network.requests.filter((path) => path.startsWith('UPGRADE')).length;
    expect(upgrades()).toBe(1);
    const next = await openPage({}, room, context);
    expect(await transportOf(next)).toBe('sse');
    expect(upgrades()).toBe(1);
    expect(own()).toEqual([]);
  });

  it('swallows WebSocket and holds streams back uses long polling, and sends over it', async () => {
    Object.assign(network, { upgrades: 'swallowed', streams: 'buffered' });
    const page = await openPage({}, newRoom());
    expect(await transportOf(page)).toBe('long-polling');
    await say(page, 'Hello');
    await hears(page, ['Hello']);
    expect(own()).toEqual([]);
  });

  it('changes is followed: WebSocket, SSE, long polling and back again, and nothing is lost', async () => {
    const room = newRoom();
    const backoff = { minMs: 100, maxMs: 500, attemptsPer10s: 100 };
    const page = await openPage({ rememberMs: 0, backoff }, room);
    const ada = await openPage({}, room);
    const said: string[] = [];
    const tell = async (): Promise<void> => {
      const text = `Text ${said.length + 1}`;
      said.push(text);
      await say(ada, text);
    };
    expect(await transportOf(page)).toBe('websocket');
    const ways = [
      { upgrades: 'refused', streams: 'open', uses: 'sse' },
      { upgrades: 'refused', streams: 'buffered', uses: 'long-polling' },
      { upgrades: 'open', streams: 'open', uses: 'websocket' },
    ] as const;
    for (const way of ways) {
      Object.assign(network, { upgrades: 'open' });
      await uses(ada, 'websocket');
      await tell();
      await hears(page, said);
      Object.assign(network, way);
      if (way.uses === 'websocket') await page.evaluate('client.close(), client.connect(), chat.subscribe(), 0');
      else await page.evaluate('client.reconnect()');
      await tell();
      await uses(page, way.uses);
      await tell();
      await hears(page, said);
    }
    expect(own()).toEqual([]);
  });
});
