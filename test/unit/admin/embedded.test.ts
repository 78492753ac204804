import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import path from 'node:path';
import { expect, it } from '@jest/globals';
import { PAGE, POLICY } from '../../../lib/admin/assets.js';

const root = path.resolve(import.meta.dirname, '../../..');

it('is what its sources say', () => {
  const { NODE_OPTIONS: _, ...env } = process.env; // those of jest
  execFileSync(process.execPath, ['scripts/embed.mjs', '--check'], { cwd: root, env });
});

it('has one script and one style sheet, which its policy names by their hashes', () => {
  for (const tag of ['script', 'style']) {
    const found = [...PAGE.matchAll(new RegExp(`<${tag}[^>]*>(.*?)</${tag}>`, 'gs'))];
    expect(found).toHaveLength(1);
    const hash = createHash('sha256').update(found[0]![1]!).digest('base64');
    expect(POLICY).toContain(`${tag}-src 'sha256-${hash}'`);
  }
});

it('writes nothing as HTML, and runs no text', () => {
  expect(PAGE).not.toMatch(/innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|javascript:/);
  expect(PAGE).not.toMatch(/\son\w+=|\sstyle="/);
});
