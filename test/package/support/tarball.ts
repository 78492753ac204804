import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { run } from './command.js';

export interface Tarball {
  readonly file: string;
  readonly contents: readonly string[];
  dispose(): Promise<void>;
}

/** `npm pack` of the built dist/, into a directory of its own. */
export async function packTarball(): Promise<Tarball> {
  const directory = await mkdtemp(path.join(tmpdir(), 'nestjs-realtime-pack-'));
  const printed = await run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', directory]);
  const [packed] = JSON.parse(printed) as { filename: string; files: { path: string }[] }[];
  return {
    file: path.join(directory, packed!.filename),
    contents: packed!.files.map((file) => file.path),
    dispose: () => rm(directory, { recursive: true, force: true }),
  };
}
