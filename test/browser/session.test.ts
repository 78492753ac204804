import { createSecretKey } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import type { Browser, Page } from 'playwright-core';
import { sign } from '../support/jwt.js';
import { secret } from '../support/secrets.js';
import { launchChromium } from './support/chromium.js';
import { startDemo, type Demo } from './support/demo.js';
import { card, counter, hasState, hears, isHere, moves, say, Visitors } from './support/page.js';

const SECRET = secret('the secret of the demo that is tested');
/** A page has so long to open its connections with a token. */
const LIFETIME_S = 10;
/** After the end of a token its connection is kept for 25 s. */
const EXPIRY_MS = 90_000;

jest.setTimeout(240_000); // a busy machine

let demo: Demo;
let browser: Browser;
let visitors: Visitors;

beforeAll(async () => {
  const settings = {
    JWT_SECRET: SECRET,
    TOKEN_LIFETIME_S: String(LIFETIME_S),
  };
  [demo, browser] = await Promise.all([startDemo(settings), launchChromium()]);
  visitors = new Visitors(browser, demo.url);
}, 240_000);

afterEach(async () => {
  await visitors.leave();
});

afterAll(async () => {
  await browser.close();
  expect((await demo.stop()).output).not.toMatch(/eyJ/); // no token
});

const session = (page: Page, text: RegExp): Promise<void> =>
  page.locator('#session', { hasText: text }).waitFor({ timeout: EXPIRY_MS });

describe('the demo with JWT_SECRET', () => {
  it('refuses who brings no token, or a wrong one', async () => {
    const paths = ['/realtime/sse?channels=ticker.NEST', '/feed/scores/final', '/feed/load', '/connections/x'];
    for (const path of paths) {
      for (const headers of [{}, { authorization: 'Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.' }]) {
        expect((await fetch(`${demo.url}${path}`, { headers })).status).toBe(401);
      }
    }
  });

  it('lets a token with the claim `channels` read these and no others, whatever the route', async () => {
    const channels = ['scores.:match', 'ticker.NEST'];
    const token = await sign({ channels }, createSecretKey(SECRET, 'utf8'));
    const statusOf = async (path: string): Promise<number> => {
      const { status, body } = await fetch(`${demo.url}${path}`, { headers: { authorization: `Bearer ${token}` } });
      await body?.cancel();
      return status;
    };
    expect(await statusOf('/realtime/sse?channels=ticker.NEST,scores.final')).toBe(200);
    expect(await statusOf('/realtime/sse?channels=ticker.NEST,ticker.NODE')).toBe(403);
    expect(await statusOf('/feed/scores/final')).toBe(200);
    const other = await sign({ channels: ['chat.:room'] }, createSecretKey(SECRET, 'utf8'));
    const refused = await fetch(`${demo.url}/feed/scores/final`, { headers: { authorization: `Bearer ${other}` } });
    expect([refused.status, await refused.json()]).toMatchObject([403, { error: { code: 'forbidden' } }]);
  });

  it('renews the token of a page in place, over WebSocket and SSE', async () => {
    const [ada, bob] = [await visitors.visit('Ada', 'tea'), await visitors.visit('Bob', 'tea')];
    await Promise.all([isHere(ada, 'Bob'), isHere(bob, 'Ada')]);
    await session(ada, /renewed 2 times/);
    await say(ada, 'Still here');
    await hears(bob, 'Still here');
    expect(await counter(card(ada, 'talk-link'), 'reconnects')).toBe(0);
    expect(await counter(card(ada, 'feed-link'), 'lost')).toBe(0);
    await moves(ada, '#feed-link [data-channel="ticker.NEST"] .position b');
    expect(await visitors.leave()).toEqual([]);
  });

  it('closes the connection of a page that does not, and lets it sign in again', async () => {
    const ada = await visitors.visit('Ada', 'cake');
    await ada.getByRole('button', { name: 'Let it expire' }).click();
    await session(ada, /token has ended · not renewed any more/);
    await session(ada, /connection closed: token_expired/);
    await hasState(card(ada, 'talk-link'), 'closed');
    await ada.getByRole('button', { name: 'Sign in again' }).click();
    await session(ada, /token ends in/);
    await hasState(card(ada, 'talk-link'), 'open');
    await isHere(ada, 'Ada');
    await hasState(card(ada, 'source'), 'open');
    expect((await visitors.leave()).filter((complaint) => !complaint.includes('401'))).toEqual([]);
  });
});
