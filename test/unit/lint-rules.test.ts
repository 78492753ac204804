import { beforeAll, describe, expect, it } from '@jest/globals';
import { ESLint } from 'eslint';
import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import tseslint from 'typescript-eslint';

// A plain module without types of its own; jest loads it as it is.
const pluginFile = '../../scripts/lint/plugin.mjs';

describe('the lint rules of lib/', () => {
  let plugin: ESLint.Plugin;

  beforeAll(async () => {
    plugin = ((await import(pluginFile)) as { default: ESLint.Plugin }).default;
  });

  /** Lints `files` (path in lib → source) as a library of their own; returns `file: message` for each finding. */
  async function lint(files: Record<string, string>): Promise<string[]> {
    const root = await mkdtemp(path.join(tmpdir(), 'lint-rules-'));
    try {
      for (const [file, source] of Object.entries(files)) {
        await mkdir(path.join(root, 'lib', path.dirname(file)), { recursive: true });
        await writeFile(path.join(root, 'lib', file), source);
      }
      const eslint = new ESLint({
        cwd: root,
        overrideConfigFile: true,
        overrideConfig: [
          {
            files: ['lib/**/*.ts'],
            linterOptions: { reportUnusedDisableDirectives: 'off' },
            languageOptions: { parser: tseslint.parser },
            plugins: { project: plugin },
            rules: Object.fromEntries(Object.keys(plugin.rules ?? {}).map((rule) => [`project/${rule}`, 'error'])),
          },
        ],
      });
      const results = await eslint.lintFiles(['lib']);
      return results.flatMap(({ filePath, messages }) =>
        messages.map(({ message }) => `${path.relative(path.join(root, 'lib'), filePath)}: ${message}`),
      );
    } finally {
      await rm(root, { recursive: true, force: true });
    }
  }

  const one = (file: string, source: string) => lint({ [file]: source });

  it.each([
    ['protocol/frames.ts', "import { randomBytes } from 'node:crypto';"],
    ['protocol/frames.ts', "import type { Hub } from '../hub/hub.js';"],
    ['hub/hub.ts', "import { Injectable } from '@nestjs/common';"],
    ['hub/hub.ts', "import { WebSocket } from 'ws';"],
    ['hub/hub.ts', "import type { Redis } from 'ioredis';"],
    ['hub/hub.ts', "import { createServer } from 'node:http';"],
    ['hub/hub.ts', "import { Subject } from 'rxjs';"],
    ['hub/hub.ts', "import { memoryBroker } from '../brokers/memory.broker.js';"],
    ['transports/websocket.transport.ts', "import { Hub } from '../hub/hub.js';"],
    ['transports/websocket.transport.ts', "import type { Logger } from '@nestjs/common';"],
    ['transports/websocket.transport.ts', "import { redisBroker } from '../brokers/redis.broker.js';"],
    ['brokers/memory.broker.ts', "const ws = await import('ws');"],
    ['brokers/memory.broker.ts', "export type A = import('../nest/module.js').A;"],
    ['security/origin.ts', "import '@nestjs/core';"],
    ['nest/realtime.module.ts', "import { RealtimeClient } from '../client/index.js';"],
    ['nest/realtime.module.ts', "import { WebSocket } from 'ws';"],
    ['client/client.ts', "import type { Hub } from '../hub/ports/broker.js';"],
    ['client/client.ts', "import { WebSocket } from 'ws';"],
    ['client/client.ts', "import WebSocket = require('ws');"],
    ['nest/realtime.module.ts', "import { x } from '../index.js';"],
    ['nest/realtime.module.ts', "import { x } from '../../test/x.js';"],
    ['other/thing.ts', "import { x } from '../protocol/frames.js';"],
  ])('refuse in %s: %s', async (file, source) => {
    expect(await one(file, source)).toHaveLength(1);
  });

  it.each([
    ['protocol/codec.ts', "import { frame } from './frames.js';"],
    ['hub/hub.ts', "import { frame } from '../protocol/frames.js'; import { randomBytes } from 'node:crypto';"],
    ['hub/ports/link.ts', "import type { IncomingHttpHeaders } from 'node:http';"],
    [
      'transports/websocket.transport.ts',
      "import type { Link } from '../hub/ports/link.js'; import { WebSocket } from 'ws';",
    ],
    ['brokers/redis.broker.ts', "import type { Broker } from '../hub/ports.js'; import { Redis } from 'ioredis';"],
    ['nest/realtime.module.ts', "import { Module } from '@nestjs/common'; import { Hub } from '../hub/hub.js';"],
    ['client/index.ts', "import { frame } from '../protocol/frames.js';"],
    ['index.ts', "export { Hub } from './hub/hub.js';"],
  ])('accept in %s: %s', async (file, source) => {
    expect(await one(file, source)).toEqual([]);
  });

  it('report a cycle at each of its imports, types included', async () => {
    const findings = await lint({
      'hub/a.ts': "import type { B } from './b.js'; export type A = B;",
      'hub/b.ts': "import type { C } from './c.js'; export type B = C;",
      'hub/c.ts': "export type C = import('./a.js').A;",
      'hub/d.ts': "import type { A } from './a.js'; export type D = A;",
    });
    expect(findings).toEqual([
      'hub/a.ts: Import cycle: lib/hub/a.ts → lib/hub/b.ts → lib/hub/c.ts → lib/hub/a.ts.',
      'hub/b.ts: Import cycle: lib/hub/b.ts → lib/hub/c.ts → lib/hub/a.ts → lib/hub/b.ts.',
      'hub/c.ts: Import cycle: lib/hub/c.ts → lib/hub/a.ts → lib/hub/b.ts → lib/hub/c.ts.',
    ]);
  });

  it('refuse a barrel and a re-export outside the entry points, and `export *` everywhere', async () => {
    expect(await one('hub/index.ts', 'export const x = 1;')).toHaveLength(1);
    expect(await one('hub/hub.ts', "export { x } from './x.js';")).toHaveLength(1);
    expect(await one('index.ts', "export * from './hub/x.js';")).toHaveLength(1);
  });

  it('ask for the reason of a disabled rule', async () => {
    expect(await one('hub/hub.ts', '// eslint-disable-next-line no-var\nexport let x = 1;')).toHaveLength(1);
    expect(await one('hub/hub.ts', '// eslint-disable-next-line no-var -- a test\nexport let x = 1;')).toEqual([]);
  });
});
