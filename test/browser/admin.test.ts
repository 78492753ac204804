import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import type { Browser, Locator, Page } from 'playwright-core';
import { secret } from '../support/secrets.js';
import { until } from '../support/redis-server.js';
import { launchChromium } from './support/chromium.js';
import { startDemo, type Demo } from './support/demo.js';
import { card, hasState, overflow, PHONE, Visitors, WIDE, type WindowOptions } from './support/page.js';

const TOKEN = secret('the token of the admin page that is tested');
const SCREENSHOTS = path.resolve(import.meta.dirname, '../../.build/screenshots');
/** A name that would run, were it read as HTML. */
const HOSTILE = '<img src=x onerror="alert(1)">';
const BEARER = { authorization: `Bearer ${TOKEN}` };

jest.setTimeout(180_000); // a browser on a busy machine

let demo: Demo;
let browser: Browser;
let visitors: Visitors;
const complaints: string[] = [];
const pages: Page[] = [];

beforeAll(async () => {
  [demo, browser] = await Promise.all([
    startDemo({ ADMIN_TOKEN: TOKEN }),
    launchChromium(),
    mkdir(SCREENSHOTS, { recursive: true }),
  ]);
  visitors = new Visitors(browser, demo.url);
}, 240_000);

afterEach(async () => {
  for (const page of pages.splice(0)) await page.context().close();
  expect([...(await visitors.leave()), ...complaints.splice(0)]).toEqual([]);
});

afterAll(async () => {
  await browser.close();
  expect((await demo.stop()).output).not.toContain(TOKEN);
});

/** A window on the admin page, signed in by the form. */
async function signIn(options: WindowOptions = {}): Promise<Page> {
  const context = await browser.newContext({ viewport: WIDE, ...options });
  const page = await context.newPage();
  pages.push(page);
  page.setDefaultTimeout(60_000); // a busy machine
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text()); // violations of the policy too
  });
  await page.goto(`${demo.url}/realtime/admin`);
  expect(new URL(page.url()).pathname).toBe('/admin/sign-in');
  await page.getByLabel('Token').fill(TOKEN);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.locator('#link[data-state="live"]').waitFor();
  return page;
}

const tile = (page: Page, label: string): Locator =>
  page.locator('.tile', { has: page.getByText(label, { exact: true }) }).locator('b');

const tab = async (page: Page, name: string): Promise<void> => {
  await page.getByRole('navigation').getByRole('link', { name }).click();
  await page.getByRole('heading', { name, level: 1 }).waitFor({ state: 'attached' });
};

const row = (page: Page, text: string): Locator => page.locator('tbody tr', { hasText: text });

describe('the demo with ADMIN_TOKEN', () => {
  it('lets in who has the token, and keeps who signed in by a cookie that scripts and other sites cannot use', async () => {
    const admin = `${demo.url}/realtime/admin`;
    expect((await fetch(admin)).status).toBe(401);
    expect((await fetch(`${admin}/stream`, { headers: { authorization: 'Bearer another' } })).status).toBe(401);
    expect((await fetch(admin, { headers: BEARER })).status).toBe(200);
    const html = await fetch(admin, { headers: { accept: 'text/html' }, redirect: 'manual' });
    expect([html.status, html.headers.get('location')]).toEqual([303, '/admin/sign-in']);
    const form = new URLSearchParams({ token: TOKEN });
    const signedIn = await fetch(`${demo.url}/admin/sign-in`, { method: 'POST', body: form, redirect: 'manual' });
    expect([signedIn.status, signedIn.headers.get('location')]).toEqual([303, '/realtime/admin']);
    const cookie = signedIn.headers.get('set-cookie')!;
    expect(cookie).toMatch(/; HttpOnly; SameSite=Strict$/);
    expect(cookie).not.toContain(TOKEN);
    const session = cookie.split(';')[0]!;
    expect((await fetch(admin, { headers: { cookie: session } })).status).toBe(200);
    for (const forged of [`${session}x`, 'demo_admin=9999999999999.x', session.replace(/=\d/, '=9')]) {
      expect((await fetch(admin, { headers: { cookie: forged } })).status).toBe(401);
    }
  });

  it('shows what the node is and does', async () => {
    await visitors.visit('Ada', 'tea');
    const page = await signIn();
    await until(async () => Number(await tile(page, 'Connections').innerText()) >= 3, 'what is shown');
    await until(async () => Number(await tile(page, 'Publications / s').innerText()) > 0, 'what is shown');
    await until(async () => (await tile(page, 'Delivery p99').innerText()).endsWith('ms'), 'what is shown');
    expect(await tile(page, 'Nodes').innerText()).toBe('1');
    expect(await page.locator('.node').innerText()).toMatch(/memory, available/);
    await page.locator('.chart .area').nth(1).waitFor({ state: 'attached' });
    await until(
      async () => ((await page.locator('.chart .line').first().getAttribute('d')) ?? '').includes('L'),
      'what is shown',
    );
    const plot = (await page.locator('.plot').first().boundingBox())!;
    await page.mouse.move(plot.x + plot.width - 20, plot.y + 40);
    await page
      .locator('.chart .when', { hasText: /^\d+ s ago$/ })
      .first()
      .waitFor();
    expect(await page.locator('.checks li').count()).toBe(11);
    expect(await page.locator('.checks li', { hasText: 'This page is guarded' }).innerText()).toContain('well');
  });

  it('finds a connection, tells of it, and ends it', async () => {
    const ada = await visitors.visit('Ada', 'tea');
    await hasState(card(ada, 'talk-link'), 'open');
    const page = await signIn();
    await tab(page, 'Connections');
    await row(page, 'websocket').first().waitFor();
    await page.getByLabel('Transport').selectOption('websocket');
    await page
      .getByRole('status')
      .filter({ hasText: /^1 of \d+ connections$/ })
      .waitFor();
    await page.getByLabel('Search').fill('no such peer');
    await page.getByText('No connection matches.').waitFor();
    await page.getByLabel('Search').fill('anonymous');
    await page.getByLabel('Search').fill('');
    await row(page, 'websocket').getByRole('button').click();
    const dialog = page.getByRole('dialog', { name: 'Connection' });
    await dialog.getByRole('link', { name: 'chat.tea' }).waitFor();
    await dialog.getByLabel('It may come back').check();
    await dialog.getByRole('button', { name: 'Disconnect' }).click();
    await dialog.getByText('It was told to come back.').waitFor();
    await card(ada, 'talk-link').locator('[data-counter="reconnects"] dd', { hasText: '1' }).waitFor();
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'hidden' });
  });

  it('tells of a channel, shows what is published, and publishes', async () => {
    const ada = await visitors.visit('Ada', 'cake');
    const page = await signIn();
    await tab(page, 'Channels');
    await row(page, 'ticker.NEST').waitFor();
    await until(
      async () => Number(await row(page, 'ticker.NEST').locator('td').last().innerText()) > 0,
      'what is shown',
    );
    await page.getByLabel('Channel').fill('cake');
    await row(page, 'ticker.NEST').waitFor({ state: 'detached' });
    await row(page, 'chat.cake').getByRole('link').click();
    await page.getByRole('heading', { name: 'chat.cake', level: 1 }).waitFor();
    await until(async () => (await tile(page, 'Members').innerText()) === '1', 'what is shown');
    await page.getByRole('button', { name: 'Start' }).click();
    await page.locator('.tools .pill[data-state="live"]').waitFor();
    await page.getByLabel('Event', { exact: true }).fill('message');
    await page.getByLabel('Data, as JSON').fill('no JSON');
    await page.getByRole('button', { name: 'Publish' }).click();
    await page.getByText('The data is not JSON.').waitFor();
    await page.getByLabel('Data, as JSON').fill('{"text":"From the admin page","name":"Ops","from":"ops","at":1}');
    await page.getByRole('button', { name: 'Publish' }).click();
    await page.getByText(/^Published at/).waitFor();
    await page.getByRole('list', { name: 'Publications' }).getByText('From the admin page').waitFor();
    await ada.locator('#messages .message .text', { hasText: 'From the admin page' }).waitFor();
    await page.getByRole('button', { name: 'Show' }).click();
    await page.getByRole('list', { name: 'History' }).getByText('From the admin page').waitFor();
    await page.getByRole('button', { name: 'Stop' }).click();
    await page.getByRole('link', { name: '← Channels' }).click();
    await page.getByLabel('Channel').fill('no.such.channel');
    await page.getByLabel('Channel').press('Enter');
    await page.getByText('No pattern is declared for a channel of this name.').waitFor();
    expect(complaints.splice(0)).toEqual([expect.stringContaining('404')]); // the browser tells of it
  });

  it('shows hostile names and data as the text that they are', async () => {
    const page = await signIn();
    page.on('dialog', () => complaints.push('It ran'));
    const leaving = new AbortController();
    const channels = new URLSearchParams({ channels: `chat.${HOSTILE}`, client: HOSTILE }).toString();
    await fetch(`${demo.url}/realtime/sse?${channels}`, { signal: leaving.signal });
    await tab(page, 'Channels');
    await row(page, HOSTILE).getByRole('link').click();
    await page.getByRole('heading', { name: `chat.${HOSTILE}`, level: 1 }).waitFor();
    await page.getByRole('button', { name: 'Start' }).click();
    await page.locator('.tools .pill[data-state="live"]').waitFor();
    await page.getByLabel('Event', { exact: true }).fill(HOSTILE);
    await page.getByLabel('Data, as JSON').fill(JSON.stringify({ text: HOSTILE }));
    await page.getByRole('button', { name: 'Publish' }).click();
    await page.getByRole('list', { name: 'Publications' }).getByText(HOSTILE).first().waitFor();
    await tab(page, 'Connections');
    await row(page, 'sse').first().getByRole('button').click();
    await page
      .getByRole('dialog')
      .getByRole('link', { name: `chat.${HOSTILE}` })
      .waitFor();
    expect(await page.locator('img').count()).toBe(0);
    leaving.abort();
  });

  it('goes by the keyboard', async () => {
    const page = await signIn();
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter'); // past the navigation
    expect(await page.evaluate(() => document.activeElement?.id)).toBe('main');
    await page.getByRole('link', { name: 'Connections' }).focus();
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Connections', level: 1 }).waitFor();
    await page.locator('tbody').waitFor({ state: 'attached' });
  });

  it.each([
    ['wide', { viewport: WIDE }],
    ['wide-dark', { viewport: WIDE, colorScheme: 'dark' }],
    ['phone', { viewport: PHONE, deviceScaleFactor: 2, isMobile: true, hasTouch: true }],
    ['phone-dark', { viewport: PHONE, deviceScaleFactor: 2, isMobile: true, hasTouch: true, colorScheme: 'dark' }],
  ] as const)('fits the window: %s', async (name, options) => {
    await visitors.visit('Ada', 'tea');
    const page = await signIn(options);
    const shoot = async (view: string): Promise<void> => {
      expect(await overflow(page)).toBeLessThanOrEqual(0);
      await page.screenshot({ path: path.join(SCREENSHOTS, `admin-${view}-${name}.png`), fullPage: true });
    };
    await page.locator('.node').waitFor();
    await until(async () => (await tile(page, 'Delivery p99').innerText()).endsWith('ms'), 'what is shown');
    await shoot('overview');
    await tab(page, 'Connections');
    await row(page, 'websocket').first().waitFor();
    await shoot('connections');
    await row(page, 'websocket').first().getByRole('button').click();
    await page.getByRole('dialog').locator('.facts').waitFor();
    await page.screenshot({ path: path.join(SCREENSHOTS, `admin-connection-${name}.png`) });
    await page.getByRole('button', { name: 'Close' }).click();
    await tab(page, 'Channels');
    await row(page, 'chat.tea').waitFor();
    await shoot('channels');
    await row(page, 'chat.tea').getByRole('link').click();
    await page.locator('.publish').waitFor();
    await shoot('channel');
  });

  it('says that the server is away, and goes on when it is back', async () => {
    const page = await signIn();
    await demo.stop();
    await page.locator('#link[data-state="away"]').waitFor();
    await page.getByRole('alert').filter({ hasText: 'The server cannot be reached' }).waitFor();
    const { port } = new URL(demo.url);
    demo = await startDemo({ ADMIN_TOKEN: TOKEN, PORT: port });
    await page.locator('#link[data-state="live"]').waitFor();
    await page.locator('.node', { has: page.locator('.pill[data-state="up"]') }).waitFor();
    expect(await page.locator('.node', { has: page.locator('.pill[data-state="gone"]') }).innerText()).toMatch(
      /It left \d+ s ago/,
    );
    expect(await tile(page, 'Nodes').innerText()).toBe('1');
    complaints.length = 0; // the browser tells of each request that failed
  });

  it('leads to where one signs in when the session is gone, and goes on after that', async () => {
    await visitors.visit('Ada', 'tea');
    const page = await signIn();
    await tab(page, 'Connections');
    const cookies = await page.context().cookies();
    await page.context().clearCookies();
    await page.getByLabel('Transport').selectOption('websocket');
    await page.locator('#link[data-state="refused"]').waitFor();
    await page.getByRole('status').filter({ hasText: 'You are not let in any more.' }).waitFor();
    await page.context().addCookies(cookies); // signed in elsewhere
    await page.locator('#link[data-state="live"]').waitFor();
    await page.context().clearCookies();
    await page.getByLabel('Transport').selectOption('');
    await page.getByRole('alert').getByRole('button', { name: 'Reload' }).click();
    await page.getByLabel('Token').waitFor();
    complaints.length = 0; // the browser tells of each request that failed
  });

  it('bounds how many wrong tokens an address may send', async () => {
    const wrong = (): Promise<Response> =>
      fetch(`${demo.url}/admin/sign-in`, { method: 'POST', body: new URLSearchParams({ token: 'a guess' }) });
    const statuses = [];
    for (let i = 0; i < 7; i++) statuses.push((await wrong()).status);
    expect(statuses).toEqual([401, 401, 401, 401, 401, 429, 429]);
    expect((await fetch(`${demo.url}/realtime/admin`, { headers: BEARER })).status).toBe(429);
  });
});

describe('the demo without ADMIN_TOKEN', () => {
  it('has no admin page', async () => {
    const open = await startDemo();
    try {
      for (const at of ['/realtime/admin', '/realtime/admin/stream', '/admin/sign-in']) {
        expect((await fetch(`${open.url}${at}`, { headers: BEARER })).status).toBe(404);
      }
    } finally {
      await open.stop();
    }
  });
});
