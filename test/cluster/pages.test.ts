import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import type { Browser, Page } from 'playwright-core';
import { launchChromium } from '../browser/support/chromium.js';
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
} from '../browser/support/page.js';
import { Cluster } from './support/cluster.js';

const SCREENSHOTS = path.resolve(import.meta.dirname, '../../.build/screenshots');
/** What Chromium says of a stream that was cut. */
const CUT = /net::ERR_INCOMPLETE_CHUNKED_ENCODING/;
const CARDS = ['talk-link', 'feed-link', 'source'] as const;

jest.setTimeout(240_000); // a browser and two nodes on a busy machine

let cluster: Cluster;
let browser: Browser;
let visitors: Visitors;
let allowed: RegExp | undefined;
let rooms = 0;

beforeAll(async () => {
  [cluster, browser] = await Promise.all([
    Cluster.start(),
    launchChromium(),
    mkdir(SCREENSHOTS, { recursive: true }),
  ] as const);
  visitors = new Visitors(browser, cluster.url);
}, 240_000);

afterEach(async () => {
  const complaints = await visitors.leave();
  expect(complaints.filter((text) => allowed?.test(text) !== true)).toEqual([]);
  allowed = undefined;
});

afterAll(async () => {
  await browser.close();
  await cluster.end();
});

const newRoom = (): string => `room${++rooms}`;

/** The node that a page's chat is on, as the page shows it: the beginning of its id. */
async function nodeOf(page: Page): Promise<string> {
  const facts = card(page, 'talk-link').locator('.facts', { hasText: /node [0-9a-f]{8}/ });
  return /node ([0-9a-f]{8})/.exec(await facts.innerText())![1]!;
}

/** Two visitors of a new room whose chats are on different nodes. */
async function visitBoth(options?: WindowOptions): Promise<{ ada: Page; bob: Page }> {
  for (let rooms = 1; ; rooms++) {
    const room = newRoom();
    const ada = await visitors.visit('Ada', room, options);
    const bob = await visitors.visit('Bob', room, options);
    if ((await nodeOf(ada)) !== (await nodeOf(bob))) return { ada, bob };
    await Promise.all([ada, bob].map((page) => page.context().close()));
    // Nodes take turns: if a page asks an even number of times, all chats would be on the same.
    if (rooms % 2 === 0) await (await fetch(cluster.url)).text();
  }
}

const people = async (page: Page): Promise<string[]> => (await page.locator('#people .who').allInnerTexts()).sort();

describe('pages on different nodes', () => {
  it('chat with each other, see who is there, and show how many nodes there are', async () => {
    const { ada, bob } = await visitBoth();
    await Promise.all([isHere(ada, 'Bob'), isHere(bob, 'Ada')]);
    await say(ada, 'Hello from the one node');
    await hears(bob, 'Hello from the one node');
    await say(bob, 'and from the other');
    await hears(ada, 'and from the other');
    expect(await heard(ada)).toEqual(['Hello from the one node', 'and from the other']);
    expect(await heard(bob)).toEqual(await heard(ada));
    expect(await people(ada)).toEqual(['Ada', 'Bob']);
    expect(await people(bob)).toEqual(['Ada', 'Bob']);
    await ada.locator('#connection-kinds', { hasText: /^\d+ websocket · \d+ sse · 2 nodes$/ }).waitFor();

    await bob.close();
    await ada.locator('.note', { hasText: 'Bob left' }).waitFor();
    expect(await people(ada)).toEqual(['Ada']);
  });

  it('lose nothing and double nothing when a node is killed: its page goes on with the other', async () => {
    allowed = CUT;
    const { ada, bob } = await visitBoth();
    await isHere(ada, 'Bob');
    await say(ada, 'Before');
    await hears(bob, 'Before');
    await moves(bob, '[data-symbol="NEST"] .price');

    const [from, to] = [await nodeOf(bob), await nodeOf(ada)];
    const ids = await Promise.all(cluster.nodes.map((node) => cluster.idOf(node)));
    const victim = cluster.nodes[ids.findIndex((id) => id.startsWith(from))]!;
    cluster.kill(victim);
    // Two requests: one of them meets the dead node and is served by the other, and no more go there for a while.
    for (const response of await Promise.all([fetch(cluster.url), fetch(cluster.url)])) {
      expect(response.status).toBe(200);
      await response.text();
    }
    await hasState(card(bob, 'talk-link'), 'waiting');
    const missed = ['One', 'Two', 'Three'];
    for (const text of missed) {
      await say(ada, text);
      await hears(ada, text);
    }
    await say(bob, 'Written meanwhile');
    await Promise.all([hears(ada, 'Written meanwhile'), hears(bob, 'Written meanwhile')]);

    expect(await nodeOf(bob)).toBe(to);
    expect(await heard(bob)).toEqual(['Before', ...missed, 'Written meanwhile']);
    expect(await heard(ada)).toEqual(await heard(bob));
    expect(await people(ada)).toEqual(['Ada', 'Bob']);
    expect(await people(bob)).toEqual(['Ada', 'Bob']);
    expect(await ada.locator('.note', { hasText: 'Bob left' }).count()).toBe(0);

    // The feeds go on, whichever node had published them, on all wires.
    for (const page of [ada, bob]) {
      for (const id of CARDS) await hasState(card(page, id), 'open');
      await moves(page, '[data-symbol="NEST"] .price');
      await moves(page, '#clock');
      await moves(page, '#source .wire');
      for (const id of CARDS) expect(await counter(card(page, id), 'lost')).toBe(0);
    }
    await bob.screenshot({ path: path.join(SCREENSHOTS, 'cluster-killed.png') });

    await cluster.isBack(victim);
    expect(await cluster.idOf(victim)).not.toBe(ids[cluster.nodes.indexOf(victim)]);
  });

  it.each([
    ['wide', { viewport: WIDE }],
    ['phone', { viewport: PHONE, deviceScaleFactor: 2, isMobile: true, hasTouch: true }],
  ] as const)('fit the window: %s', async (name, options) => {
    const { ada, bob } = await visitBoth(options);
    await say(ada, 'Which node are you on?');
    await hears(bob, 'Which node are you on?');
    await say(bob, 'Not on yours. It does not matter.');
    await hears(ada, 'Not on yours. It does not matter.');
    await moves(ada, '#clock');
    expect(await overflow(ada)).toBeLessThanOrEqual(0);
    await ada.screenshot({ path: path.join(SCREENSHOTS, `cluster-${name}.png`) });
    await ada.screenshot({ path: path.join(SCREENSHOTS, `cluster-${name}-full.png`), fullPage: true });
  });
});
