// The project's own lint rules, for the sources in lib/.
import path from 'node:path';
import { findPath, resolveSource } from './import-graph.mjs';
import { refuseImport } from './import-table.mjs';

/** Calls `visit(sourceNode, typeOnly)` for every way in which a module can name another. */
function importVisitor(visit) {
  const ifText = (source, typeOnly) => {
    if (source?.type === 'Literal' && typeof source.value === 'string') visit(source, typeOnly);
  };
  const allTypes = (specifiers, kind) =>
    specifiers.length > 0 && specifiers.every((specifier) => specifier[kind] === 'type');
  return {
    ImportDeclaration: (node) =>
      ifText(node.source, node.importKind === 'type' || allTypes(node.specifiers, 'importKind')),
    ExportNamedDeclaration: (node) =>
      ifText(node.source, node.exportKind === 'type' || allTypes(node.specifiers, 'exportKind')),
    ExportAllDeclaration: (node) => ifText(node.source, node.exportKind === 'type'),
    ImportExpression: (node) => ifText(node.source, false),
    TSImportType: (node) => ifText(node.source ?? node.argument?.literal ?? node.argument, true),
    TSExternalModuleReference: (node) => ifText(node.expression, false),
    'CallExpression[callee.name="require"]': (node) => ifText(node.arguments[0], false),
  };
}

const libDirOf = (context) => path.join(context.cwd, 'lib');

const importTable = {
  meta: { type: 'problem', schema: [], docs: { description: 'imports follow the table of layers' } },
  create: (context) =>
    importVisitor((source, typeOnly) => {
      const message = refuseImport(libDirOf(context), context.filename, source.value, typeOnly);
      if (message) context.report({ node: source, message });
    }),
};

const noCycle = {
  meta: { type: 'problem', schema: [], docs: { description: 'no import cycles, types included' } },
  create: (context) =>
    importVisitor((source) => {
      if (!source.value.startsWith('.')) return;
      const cycle = findPath(resolveSource(context.filename, source.value), context.filename);
      if (!cycle) return;
      const names = [context.filename, ...cycle].map((file) => path.relative(context.cwd, file));
      context.report({ node: source, message: `Import cycle: ${names.join(' → ')}.` });
    }),
};

const isEntryPoint = (context) => {
  const parts = path.relative(libDirOf(context), context.filename).split(path.sep);
  return parts.length === 1 || /^(client|testing)\/index\.ts$/.test(parts.join('/'));
};

const noBarrel = {
  meta: { type: 'problem', schema: [], docs: { description: 'only entry points re-export, and by name' } },
  create: (context) => ({
    ExportAllDeclaration: (node) =>
      context.report({ node, message: 'Export by name: an entry point is a list that one can read.' }),
    ExportNamedDeclaration: (node) => {
      if (node.source && !isEntryPoint(context)) {
        context.report({ node, message: 'Only entry points re-export; import from the file that declares it.' });
      }
    },
    Program: (node) => {
      if (path.basename(context.filename) === 'index.ts' && !isEntryPoint(context)) {
        context.report({ node, message: 'No barrels: name the file after what it declares.' });
      }
    },
  }),
};

const explainedDisable = {
  meta: { type: 'suggestion', schema: [], docs: { description: 'a disabled rule gives its reason' } },
  create: (context) => ({
    Program: () => {
      for (const comment of context.sourceCode.getAllComments()) {
        if (/^\s*eslint-disable/.test(comment.value) && !/ -- \S/.test(comment.value)) {
          context.report({ loc: comment.loc, message: 'Give the reason: `eslint-disable-next-line rule -- why`.' });
        }
      }
    },
  }),
};

export default {
  meta: { name: 'nestjs-realtime' },
  rules: {
    'import-table': importTable,
    'no-cycle': noCycle,
    'no-barrel': noBarrel,
    'explained-disable': explainedDisable,
  },
};
