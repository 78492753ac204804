import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Browser } from 'playwright-core';
import { launchChromium } from './support/chromium.js';

describe('the browser of these tests', () => {
  let browser: Browser;

  beforeAll(async () => {
    browser = await launchChromium();
  });
  afterAll(() => browser.close());

  it('has WebSocket and EventSource', async () => {
    const page = await browser.newPage();
    const types = await page.evaluate(() => [typeof WebSocket, typeof EventSource]);
    expect(types).toEqual(['function', 'function']);
  });
});
