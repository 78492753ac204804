import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import type { Browser, Page } from 'playwright-core';
import { launchChromium } from './support/chromium.js';
import { startDemo, type Demo } from './support/demo.js';
import {
  card,
  counter,
  hasState,
  heard,
  hears,
  isHere,
  moves,
  overflow,
  PHONE,
  say,
  Visitors,
  WIDE,
  type WindowOptions,
} from './support/page.js';

const SCREENSHOTS = path.resolve(import.meta.dirname, '../../.build/screenshots');
/** Presence keeps a lost member for 5 s. */
const LEAVE_MS = 15_000;

jest.setTimeout(180_000); // a browser on a busy machine

let demo: Demo;
let browser: Browser;
let visitors: Visitors;
let rooms = 0;

beforeAll(async () => {
  [demo, browser] = await Promise.all([startDemo(), launchChromium(), mkdir(SCREENSHOTS, { recursive: true })]);
  visitors = new Visitors(browser, demo.url);
}, 120_000);

afterEach(async () => {
  expect(await visitors.leave()).toEqual([]);
});

afterAll(async () => {
  await browser.close();
  await demo.stop();
});

const visit = (name: string, room: string, options?: WindowOptions): Promise<Page> =>
  visitors.visit(name, room, options);

const newRoom = (): string => `room${++rooms}`;

describe('the demo', () => {
  it('lets two pages chat, and each sees the other come and go', async () => {
    const room = newRoom();
    const ada = await visit('Ada', room);
    const bob = await visit('Bob', room);
    await Promise.all([isHere(ada, 'Bob'), isHere(bob, 'Ada')]);
    await ada.locator('.note', { hasText: 'Bob joined' }).waitFor();

    await say(ada, 'Hello Bob');
    await hears(bob, 'Hello Bob');
    await say(bob, 'Hello <b>Ada</b> & all');
    await hears(ada, 'Hello <b>Ada</b> & all');
    expect(await heard(ada)).toEqual(['Hello Bob', 'Hello <b>Ada</b> & all']);
    expect(await heard(bob)).toEqual(await heard(ada));

    await bob.close();
    await ada.locator('.note', { hasText: 'Bob left' }).waitFor({ timeout: LEAVE_MS });
    expect(await ada.locator('#people .who').allInnerTexts()).toEqual(['Ada']);
  });

  it('shows who comes later what was said before', async () => {
    const room = newRoom();
    const ada = await visit('Ada', room);
    await say(ada, 'First');
    await say(ada, 'Second');
    await hears(ada, 'Second');
    const bob = await visit('Bob', room);
    await hears(bob, 'Second');
    expect(await heard(bob)).toEqual(['First', 'Second']);
  });

  it('renames a guest', async () => {
    const room = newRoom();
    const ada = await visit('Ada', room);
    const bob = await visit('Bob', room);
    await bob.getByLabel('You are').fill('Robert');
    await bob.getByLabel('You are').press('Enter');
    await isHere(ada, 'Robert');
    await say(bob, 'It is still me');
    await hears(ada, 'It is still me');
    expect(await ada.locator('.message .head strong').allInnerTexts()).toEqual(['Robert']);
  });

  it('gives a page that was cut what was said meanwhile, once and in order', async () => {
    const room = newRoom();
    const ada = await visit('Ada', room);
    const bob = await visit('Bob', room);
    const link = card(bob, 'talk-link');
    await say(ada, 'Before');
    await hears(bob, 'Before');

    await link.getByRole('button', { name: 'Cut the connection' }).click();
    await hasState(link, 'waiting');
    const missed = ['One', 'Two', 'Three', 'Four', 'Five'];
    for (const text of missed) {
      await say(ada, text);
      await hears(ada, text);
    }
    await say(bob, 'Written while away'); // it waits for the connection
    await link.getByRole('button', { name: 'Restore' }).click();

    await hasState(link, 'open');
    await link.locator('.verdict', { hasText: /recovered \d+ missed publications/ }).waitFor();
    await hears(ada, 'Written while away');
    await hears(bob, 'Written while away');
    expect(await heard(bob)).toEqual(['Before', ...missed, 'Written while away']);
    expect(await heard(ada)).toEqual(await heard(bob));
    expect(await bob.locator('.note.good').innerText()).toBe('Back. 5 messages recovered.');
    expect(await counter(link, 'recovered')).toBeGreaterThanOrEqual(5);
    expect(await counter(link, 'lost')).toBe(0);
    expect(await counter(link, 'reconnects')).toBe(1);
  });

  it('moves the ticker and the score board, and counts connections', async () => {
    const page = await visit('Ada', newRoom());
    await hasState(card(page, 'feed-link'), 'open');
    expect(await card(page, 'feed-link').locator('.facts').innerText()).toContain('sse');
    for (const symbol of ['NEST', 'NODE', 'RXJS']) await moves(page, `[data-symbol="${symbol}"] .price`);
    await moves(page, '#clock');
    await moves(page, '#talk-link [data-channel="stats.server"] .position');
    await page.waitForFunction(() => Number(document.querySelector('#connection-count')?.textContent) >= 3);
    expect(await page.locator('#connection-kinds').innerText()).toMatch(/^\d+ websocket · \d+ sse$/);
  });

  it('recovers the feeds that were cut', async () => {
    const page = await visit('Ada', newRoom());
    const link = card(page, 'feed-link');
    await hasState(link, 'open');
    await moves(page, '[data-symbol="NEST"] .price');
    await link.getByRole('button', { name: 'Cut the connection' }).click();
    await hasState(link, 'waiting');
    await moves(page, '#source .wire'); // time passes: the other stream goes on
    await moves(page, '#source .wire');
    await link.getByRole('button', { name: 'Restore' }).click();
    await link.locator('.verdict', { hasText: /recovered \d+ missed publications/ }).waitFor();
    expect(await counter(link, 'recovered')).toBeGreaterThan(0);
    expect(await counter(link, 'lost')).toBe(0);
  });

  it('feeds a bare EventSource, from channels, @Sse and @RealtimeSse, which recovers by its last event id', async () => {
    const page = await visit('Ada', newRoom());
    const source = card(page, 'source');
    for (const [stream, event] of [
      ['@RealtimeSse', 'load'],
      ['@Sse', 'update'],
      ['Channels', 'price'],
    ] as const) {
      await source.getByText(stream, { exact: true }).click();
      await source.locator('.row b', { hasText: event }).first().waitFor();
    }
    await source.getByRole('button', { name: 'Cut the connection' }).click();
    await hasState(source, 'waiting');
    await moves(page, '#clock'); // 1.5 s at most
    await source.getByRole('button', { name: 'Restore' }).click();
    await source.locator('.verdict', { hasText: /recovered \d+ missed publications/ }).waitFor();
    expect(await counter(source, 'recovered')).toBeGreaterThan(0);
    expect(await counter(source, 'lost')).toBe(0);
  });

  it.each([
    ['wide', { viewport: WIDE }],
    ['wide-dark', { viewport: WIDE, colorScheme: 'dark' }],
    ['phone', { viewport: PHONE, deviceScaleFactor: 2, isMobile: true, hasTouch: true }],
    ['phone-dark', { viewport: PHONE, deviceScaleFactor: 2, isMobile: true, hasTouch: true, colorScheme: 'dark' }],
  ] as const)('fits the window: %s', async (name, options) => {
    const room = newRoom();
    const page = await visit('Ada', room, options);
    const bob = await visit('Brisk Otter', room);
    await isHere(page, 'Brisk Otter');
    await say(bob, 'Is the new build live?');
    await hears(page, 'Is the new build live?');
    await say(page, 'Since ten minutes. My feed came back by itself when the train left the tunnel.');
    await say(page, 'Not one tick is missing.');
    await hears(page, 'Not one tick is missing.');
    for (const id of ['talk-link', 'feed-link'] as const) {
      await card(page, id).getByRole('button', { name: 'Cut the connection' }).click();
    }
    await say(bob, 'Then cut your connection');
    await say(bob, 'and see what I said meanwhile');
    await hears(bob, 'and see what I said meanwhile');
    await moves(bob, '#clock');
    for (const id of ['talk-link', 'feed-link'] as const) {
      await card(page, id).getByRole('button', { name: 'Restore' }).click();
      await card(page, id).locator('.verdict', { hasText: 'recovered' }).waitFor();
    }
    await moves(page, '#clock');

    expect(await overflow(page)).toBeLessThanOrEqual(0);
    await page.evaluate(() => scrollTo(0, 0));
    const composer = await page.getByLabel('Message', { exact: true }).boundingBox();
    expect(composer!.y + composer!.height).toBeLessThanOrEqual(options.viewport.height);
    await page.screenshot({ path: path.join(SCREENSHOTS, `${name}.png`) });
    await page.screenshot({ path: path.join(SCREENSHOTS, `${name}-full.png`), fullPage: true });
  });
});

describe('the demo as a process', () => {
  it('runs several times at once from one checkout, and ends cleanly on SIGTERM', async () => {
    const demos = await Promise.all([startDemo(), startDemo()]);
    try {
      expect(demos[0].url).not.toBe(demos[1].url);
      for (const { url } of demos) {
        const response = await fetch(url);
        expect(response.status).toBe(200);
        expect(await response.text()).toContain('<title>nestjs-realtime</title>');
        for (const probe of ['live', 'ready']) {
          const health = await fetch(`${url}/health/${probe}`);
          expect([health.status, await health.json()]).toMatchObject([200, { status: 'up', ready: true }]);
        }
      }
    } finally {
      for (const { output, signal } of await Promise.all(demos.map((each) => each.stop()))) {
        expect(signal).toBe('SIGTERM'); // Nest ends the process with the signal once its hooks have run
        expect(output).toMatch(/^(building.*\nbuilt.*\n)*nestjs-realtime demo: http:\/\/localhost:\d+\n$/);
      }
    }
  }, 120_000);
});
