import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { FaultyLink } from '../../lib/testing/faulty-link.js';
import { launchChromium } from './support/chromium.js';
import { startDemo, type Demo } from './support/demo.js';

jest.setTimeout(90_000); // a busy machine

let demo: Demo;
let browser: Browser;
let context: BrowserContext;
let network: FaultyLink;
let complaints: string[];

beforeAll(async () => {
  [demo, browser] = await Promise.all([startDemo(), launchChromium()]);
}, 120_000);

beforeEach(async () => {
  network = await FaultyLink.open(Number(new URL(demo.url).port));
  context = await browser.newContext();
  complaints = [];
});

afterEach(async () => {
  await context.close();
  await network.close();
});

afterAll(async () => {
  await browser.close();
  await demo.stop();
});

/** A tab with a client that shares its connection, and follows the chat. */
async function openTab(options: Record<string, unknown> = {}): Promise<Page> {
  const page = await context.newPage();
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
  });
  await page.route('**/favicon.ico', (route) => route.fulfill({ status: 204 }));
  await page.goto(`http://127.0.0.1:${network.port}/style.css`); // no client of its own
  await page.evaluate(async (given) => {
    const at = '/lib/client/index.js';
    const { RealtimeClient } = await import(at);
    const client = new RealtimeClient('/realtime', { share: 'ada', ...(given as object) });
    const seen: string[] = [];
    const chat = client.channel('chat.tabs');
    chat.on('message', ({ text }: { text: string }) => seen.push(text));
    chat.on('lost', ({ reason }: { reason: string }) => seen.push(`lost: ${reason}`));
    client.on('error', (error: Error) => seen.push(`error: ${error.message}`));
    Object.assign(globalThis, { client, chat, seen });
    await chat.subscribe();
  }, options);
  return page;
}

const say = (page: Page, text: string): Promise<unknown> =>
  page.evaluate((said) => (globalThis as any).chat.publish('message', { name: 'Ada', text: said }), text);

const hears = (page: Page, texts: string[]): Promise<unknown> =>
  page.waitForFunction((all) => JSON.stringify((globalThis as any).seen) === all, JSON.stringify(texts));

const upgrades = (): number => network.requests.filter((path) => path.startsWith('UPGRADE')).length;

describe('the tabs of a browser that share a connection', () => {
  it('are one connection; when the tab that holds it is closed or crashes another one goes on, and nothing is lost', async () => {
    const tabs: Page[] = [];
    for (let i = 0; i < 4; i++) tabs.push(await openTab());
    const [closed, crashed, third, fourth] = tabs as [Page, Page, Page, Page];
    expect(upgrades()).toBe(1);
    await say(third, 'One');
    for (const tab of tabs) await hears(tab, ['One']);

    await closed.close();
    await say(crashed, 'Two');
    for (const tab of [crashed, third, fourth]) await hears(tab, ['One', 'Two']);
    expect(upgrades()).toBe(2);

    const session = await context.newCDPSession(crashed);
    const gone = new Promise((resolve) => crashed.on('crash', resolve));
    void session.send('Page.crash').catch(() => undefined);
    await gone;
    await say(third, 'Three');
    for (const tab of [third, fourth]) await hears(tab, ['One', 'Two', 'Three']);
    expect(upgrades()).toBe(3);
    expect(complaints).toEqual([]);
  });

  it('take the connection over from one that its browser has stopped', async () => {
    const tabs = [await openTab(), await openTab(), await openTab()];
    const [frozen, second, third] = tabs as [Page, Page, Page];
    const session = await context.newCDPSession(frozen);
    await session.send('Debugger.enable');
    await session.send('Debugger.pause');
    void frozen.evaluate('0').catch(() => undefined); // it stops at the next statement
    await Promise.all([second, third].map((tab) => tab.evaluate('client.reconnect()')));
    await say(second, 'Without it');
    for (const tab of [second, third]) await hears(tab, ['Without it']);
    await session.send('Debugger.disable');
    await hears(frozen, ['Without it']);
    await say(frozen, 'Back');
    for (const tab of tabs) await hears(tab, ['Without it', 'Back']);
    expect(complaints).toEqual([]);
  });

  it('share what another transport carries too', async () => {
    network.upgrades = 'refused';
    const tabs = [await openTab(), await openTab()];
    await say(tabs[1]!, 'Over SSE');
    for (const tab of tabs) await hears(tab, ['Over SSE']);
    expect(network.requests.filter((path) => path.includes('/realtime/sse'))).toHaveLength(1);
    expect(complaints.filter((text) => !/^WebSocket connection to .* failed/.test(text))).toEqual([]);
  });
});
