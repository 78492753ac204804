// Writes lib/admin/assets.ts: the admin page as one document, with its script and its style sheet within, so that it goes
// along with every build and bundle. `--check` writes nothing, and fails where the file is not what the sources say.
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { build, stop } from 'esbuild';
import { root } from './run.mjs';

const folder = path.join(root, 'lib/admin/page');
const target = path.join(root, 'lib/admin/assets.ts');

export async function embed({ check = false } = {}) {
  const wanted = await assets().finally(stop); // else esbuild stays as long as this process
  if (wanted === (await readFile(target, 'utf8').catch(() => undefined))) return;
  if (check) throw new Error('lib/admin/assets.ts is not what lib/admin/page/ says: run `node scripts/embed.mjs`');
  await writeFile(target, wanted);
}

async function assets() {
  const [html, script, style, { version }] = await Promise.all([
    readFile(path.join(folder, 'index.html'), 'utf8'),
    bundle('main.ts'),
    bundle('style.css'),
    readFile(path.join(root, 'package.json'), 'utf8').then(JSON.parse),
  ]);
  if (/<\/(script|style)/i.test(script + style)) throw new Error('The page would end within its script or style');
  const page = html
    .replace(/\n\s+/g, '\n')
    .replace('<style></style>', () => `<style>${style}</style>`)
    .replace('<script type="module"></script>', () => `<script type="module">${script}</script>`);
  const policy = [
    "default-src 'none'",
    `script-src ${hash(script)}`,
    `style-src ${hash(style)}`,
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; ');
  return `// Made by scripts/embed.mjs of lib/admin/page/ and package.json.
export const VERSION: string = ${JSON.stringify(version)};
export const POLICY: string = ${JSON.stringify(policy)};
export const PAGE: string = ${JSON.stringify(page)};
`;
}

async function bundle(entry) {
  const { outputFiles } = await build({
    entryPoints: [path.join(folder, entry)],
    absWorkingDir: folder,
    bundle: true,
    minify: true,
    write: false,
    format: 'iife',
    target: 'es2022',
    charset: 'utf8',
    legalComments: 'none',
    tsconfigRaw: {},
  });
  return outputFiles[0].text.trim();
}

function hash(text) {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  embed({ check: process.argv.includes('--check') }).catch((error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
}
