// The graph of relative imports between the files of lib/, type imports included, for the rule `no-cycle`.
import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import ts from 'typescript';

const cache = new Map();

/** The files that `file` imports by a relative path. Read from disk once per change of the file. */
function importsOf(file) {
  const stats = statSync(file, { throwIfNoEntry: false });
  if (!stats) return [];
  const known = cache.get(file);
  if (known && known.mtimeMs === stats.mtimeMs) return known.imports;
  const { importedFiles } = ts.preProcessFile(readFileSync(file, 'utf8'), true, true);
  const imports = importedFiles
    .filter(({ fileName }) => fileName.startsWith('.'))
    .map(({ fileName }) => resolveSource(file, fileName));
  cache.set(file, { mtimeMs: stats.mtimeMs, imports });
  return imports;
}

export function resolveSource(file, specifier) {
  return path.resolve(path.dirname(file), specifier).replace(/\.js$/, '.ts');
}

/** The shortest way from `start` back to `goal` along imports, both ends included; undefined when there is none. */
export function findPath(start, goal) {
  const cameFrom = new Map([[start, undefined]]);
  for (const file of cameFrom.keys()) {
    if (file === goal) {
      const steps = [];
      for (let at = file; at !== undefined; at = cameFrom.get(at)) steps.unshift(at);
      return steps;
    }
    for (const next of importsOf(file)) {
      if (!cameFrom.has(next)) cameFrom.set(next, file);
    }
  }
  return undefined;
}
