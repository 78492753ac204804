import { describe, expect, it } from '@jest/globals';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { ERRORS, type ErrorRow, type Retry } from '../../lib/protocol/errors.js';

const root = path.resolve('.');
const read = (file: string): string => readFileSync(path.join(root, file), 'utf8');
const protocol = read('docs/protocol.md');
const security = read('docs/security.md');

const COME_BACK: Record<Retry, string> = {
  no: 'no',
  yes: 'yes',
  token: 'new token',
  subscribe: 'subscribe anew',
  connection: 'new connection',
  application: 'the application decides',
};

/** The rows of a page's table whose first column has this head, each as its cells. */
function tableOf(page: string, head: string): string[][] {
  const lines = page.split('\n');
  const start = lines.findIndex((line) => new RegExp(`^\\| ${head} +\\|`).test(line));
  const rest = lines.slice(start + 2);
  const end = rest.findIndex((line) => !line.startsWith('|'));
  const cells = (line: string): string[] => line.split('|').slice(1, -1);
  return rest.slice(0, end < 0 ? undefined : end).map((line) => cells(line).map((cell) => cell.trim()));
}

describe('docs/protocol.md', () => {
  it('lists every error with its close code, HTTP status and what follows', () => {
    const expected = Object.entries<ErrorRow>(ERRORS).map(([code, { close, http, retry, message }]) => [
      `\`${code}\``,
      String(close ?? '–'),
      String(http ?? '–'),
      COME_BACK[retry],
      message,
    ]);
    expect(tableOf(protocol, 'code')).toEqual(expected);
  });

  it('names tests that exist', () => expect(missingTests(protocol)).toEqual([]));
});

/** Where the options are declared that a page names as `limits.maxFrameBytes`, or without anything before it. */
const DECLARED: Record<string, string[]> = {
  '': ['lib/nest/options.ts', 'lib/hub/definition.ts'],
  limits: ['lib/hub/settings.ts'],
  heartbeat: ['lib/hub/settings.ts'],
  drain: ['lib/hub/settings.ts'],
  auth: ['lib/hub/ports/authenticator.ts'],
  jwtAuth: ['lib/security/jwt-options.ts'],
  webSocket: ['lib/transports/websocket.transport.ts'],
  sse: ['lib/transports/sse.transport.ts'],
};

describe('docs/security.md', () => {
  it('names tests that exist', () => expect(missingTests(security)).toEqual([]));

  it('has a test for each threat', () => {
    const [, threats = ''] = /^## Who gets in$(.*)^## Deployment$/ms.exec(security) ?? [];
    const entries = threats.split(/^- /m).slice(1);
    expect(entries.length).toBeGreaterThan(0);
    expect(entries.filter((entry) => !/→ \[[a-z0-9]+\]\s+"/.test(entry))).toEqual([]);
  });

  it('names options that exist', () => {
    const lists = [...security.matchAll(/Options?:\s((?:`[\w.]+`(?:,\s+)?)+)/g)].map(([, list]) => list!);
    const options = lists.flatMap((list) => [...list.matchAll(/`([\w.]+)`/g)].map(([, option]) => option!));
    expect(options.length).toBeGreaterThan(0);
    const missing = options.filter((option) => {
      const [name = '', group = ''] = option.split('.').reverse();
      const declaration = new RegExp(`^ +(?:readonly )?${name}\\??:|\\b${name}\\?:`, 'm');
      return !(DECLARED[group] ?? []).some((file) => declaration.test(read(file)));
    });
    expect(missing).toEqual([]);
  });
});

/** The tests that a page cites as [name] "title" and that are not in the file that its table gives the name. */
function missingTests(page: string): { name: string; title: string }[] {
  const files = new Map(tableOf(page, 'name').map(([name, file]) => [name!.slice(1, -1), file!.slice(1, -1)]));
  const cited = [...page.matchAll(/\[([a-z0-9-]+)\]\s+"([^"]+)"/g)].map(([, name, title]) => ({
    name: name!,
    title: title!.replace(/\s+/g, ' '),
  }));
  expect(cited.length).toBeGreaterThan(0);
  return cited.filter(({ name, title }) => {
    const file = files.get(name);
    return file === undefined || !read(file).includes(title);
  });
}
