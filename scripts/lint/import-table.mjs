// Which folder of lib/ may import what. This table is the architecture; docs/architecture.md explains it.
import path from 'node:path';

const NEST = /^(@nestjs\/(common|core|websockets|throttler|terminus)|rxjs|reflect-metadata)(\/|$)/;

/** Node's modules that compute and do no I/O. */
const PURE_NODE = /^node:(assert|async_hooks|buffer|crypto|events|perf_hooks|querystring|timers|url|util)(\/|$)/;
const NODE = /^node:/;

/**
 * `folders`: what a folder may import besides itself; `hub/ports` stands for hub/ports.ts and hub/ports/.
 * `packages`: the external modules it may import. `types`: those of which it may import types only.
 * A plug-in that brings its own dependency names it here.
 */
export const IMPORT_TABLE = {
  protocol: { folders: [], packages: [] },
  hub: { folders: ['protocol'], packages: [PURE_NODE], types: [/^node:(http|stream|net)$/] },
  transports: { folders: ['hub/ports', 'protocol'], packages: [NODE, /^ws$/] },
  brokers: { folders: ['hub/ports', 'hub/deadlines', 'protocol'], packages: [NODE, /^ioredis$/] },
  security: { folders: ['hub/ports', 'hub/identity', 'protocol'], packages: [NODE, /^jose$/] },
  admin: { folders: ['protocol', 'hub', 'transports/body', 'transports/departure'], packages: [NODE] },
  nest: { folders: ['protocol', 'hub', 'transports', 'brokers', 'security', 'admin'], packages: [NEST, NODE] },
  metrics: { folders: ['hub/ports'], packages: [/^prom-client$/] },
  tracing: { folders: ['hub/ports'], packages: [/^@opentelemetry\/api$/] },
  client: { folders: ['protocol'], packages: [] },
  cli: { folders: ['client', 'protocol'], packages: [NODE, /^ws$/] },
  rxjs: { folders: ['client'], packages: [/^rxjs$/] },
  testing: {
    folders: ['protocol', 'hub', 'transports', 'brokers', 'security', 'admin', 'nest', 'client'],
    packages: [NEST, NODE, /^ws$/],
  },
};

/** Files directly in lib/ are the entry points of the exports map: they re-export and may name any folder. */
const ENTRY_POINT = { folders: Object.keys(IMPORT_TABLE), packages: [] };

/** Says why `specifier` must not be imported by `file`; undefined when it may. */
export function refuseImport(libDir, file, specifier, typeOnly) {
  const from = path.relative(libDir, file).split(path.sep);
  const folder = from.length === 1 ? '' : from[0];
  const rules = folder === '' ? ENTRY_POINT : IMPORT_TABLE[folder];
  if (!rules) return `lib/${folder}/ is not in the import table (scripts/lint/import-table.mjs).`;

  if (!specifier.startsWith('.')) {
    if (rules.packages.some((allowed) => allowed.test(specifier))) return undefined;
    if (rules.types?.some((allowed) => allowed.test(specifier))) {
      return typeOnly ? undefined : `${place(folder)} may import only types from '${specifier}'.`;
    }
    return `${place(folder)} must not import '${specifier}'.`;
  }

  const target = path.relative(libDir, path.resolve(path.dirname(file), specifier)).split(path.sep);
  if (target[0] === '..') return `${place(folder)} must not import from outside lib/.`;
  if (target.length === 1) return `${place(folder)} must not import the entry point lib/${target[0]}.`;
  if (target[0] === folder || rules.folders.includes(target[0])) return undefined;
  const inFolder = target[1].replace(/\.js$/, '');
  if (rules.folders.includes(`${target[0]}/${inFolder}`)) return undefined;
  const allowed = ['its own files', ...rules.folders.map((name) => `lib/${name}`)].join(', ');
  return `${place(folder)} must not import lib/${target.join('/')}; it may import ${allowed}.`;
}

function place(folder) {
  return folder === '' ? 'An entry point' : `lib/${folder}/`;
}
