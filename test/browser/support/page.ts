import type { Browser, Locator, Page } from 'playwright-core';

export const WIDE = { width: 1440, height: 900 };
export const PHONE = { width: 390, height: 844 };

/** How a window is opened. */
export type WindowOptions = Parameters<Browser['newContext']>[0];

/** Windows on the demo, and what went wrong in them. */
export class Visitors {
  private pages: Page[] = [];
  private complaints: string[] = [];

  constructor(
    private readonly browser: Browser,
    private readonly url: string,
  ) {}

  /** A browser window of its own, in which the chat is open. */
  async visit(name: string, room: string, options: WindowOptions = {}): Promise<Page> {
    const context = await this.browser.newContext({ viewport: WIDE, ...options });
    const page = await context.newPage();
    this.pages.push(page);
    page.setDefaultTimeout(60_000); // a busy machine
    page.on('pageerror', (error) => this.complaints.push(`${name}: ${error.message}`));
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) this.complaints.push(`${name}: ${message.text()}`);
    });
    page.on('response', (response) => {
      if (response.status() >= 400) this.complaints.push(`${name}: ${response.status()} ${response.url()}`);
    });
    await page.addInitScript((nickname) => sessionStorage.setItem('nickname', nickname), name);
    await page.goto(`${this.url}/?room=${room}`);
    await isHere(page, name);
    return page;
  }

  /** Closes every window; resolves with the errors and warnings of all. */
  async leave(): Promise<string[]> {
    await Promise.all(this.pages.map((page) => page.context().close()));
    this.pages = [];
    const told = this.complaints;
    this.complaints = [];
    return told;
  }
}

export const isHere = (page: Page, name: string): Promise<void> =>
  page.locator('#people .who', { hasText: new RegExp(`^${name}$`) }).waitFor();

export const card = (page: Page, id: 'talk-link' | 'feed-link' | 'source'): Locator => page.locator(`#${id}`);

export const hasState = (at: Locator, state: string): Promise<void> =>
  at.locator(`.dot[data-state="${state}"]`).waitFor({ state: 'attached' });

export const counter = async (at: Locator, name: string): Promise<number> =>
  Number((await at.locator(`[data-counter="${name}"] dd`).innerText()).replaceAll(',', ''));

export async function say(page: Page, text: string): Promise<void> {
  await page.getByLabel('Message', { exact: true }).fill(text);
  await page.getByRole('button', { name: 'Send' }).click();
}

export const hears = (page: Page, text: string): Promise<void> =>
  page.locator('#messages .message.sent .text', { hasText: text }).waitFor();

export const heard = (page: Page): Promise<string[]> => page.locator('#messages .message .text').allInnerTexts();

/** Resolves when a text of the page is another one than now. */
export async function moves(page: Page, selector: string): Promise<void> {
  await page.locator(selector).waitFor();
  const before = await page.locator(selector).innerText();
  await page.waitForFunction(
    ([at, old]) => document.querySelector<HTMLElement>(at!)!.innerText !== old,
    [selector, before],
  );
}

/** How many pixels the page is wider than its window. */
export const overflow = (page: Page): Promise<number> =>
  page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
