import js from '@eslint/js';
import { defineConfig, globalIgnores } from 'eslint/config';
import tseslint from 'typescript-eslint';
import project from './scripts/lint/plugin.mjs';

const nodeGlobals = Object.fromEntries(
  ['console', 'process', 'Buffer', 'URL', 'fetch', 'performance', 'AbortController', 'AbortSignal', 'TextDecoder']
    .concat(['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'setImmediate', 'queueMicrotask'])
    .map((name) => [name, 'readonly']),
);

export default defineConfig(
  globalIgnores([
    '**/node_modules/',
    'dist/',
    'dist-sample/',
    '.build/',
    'coverage/',
    'sample/public/',
    'lib/admin/assets.ts',
    'test/package/quickstart/',
  ]),
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  js.configs.recommended,

  {
    name: 'scripts',
    files: ['**/*.{js,mjs}'],
    languageOptions: { globals: nodeGlobals },
  },

  {
    name: 'typed',
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: {
      parserOptions: { project: './tsconfig.json', tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      eqeqeq: 'error',
      'no-restricted-syntax': ['error', { selector: 'TSEnumDeclaration', message: 'Use a union of literals.' }],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/consistent-type-exports': 'error',
      '@typescript-eslint/no-import-type-side-effects': 'error',
      '@typescript-eslint/prefer-readonly': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/no-unnecessary-condition': 'off', // wrong where a method or an await changes the state between two looks
      '@typescript-eslint/prefer-optional-chain': 'off', // hides which half was meant
      '@typescript-eslint/no-extraneous-class': ['error', { allowWithDecorator: true }],
      // Off: each forbids what this code base does on purpose.
      '@typescript-eslint/no-empty-function': 'off',
      '@typescript-eslint/no-non-null-assertion': 'off', // `list[i]!` in a bounded loop, under noUncheckedIndexedAccess
      '@typescript-eslint/no-invalid-void-type': 'off', // `void | Promise<void>` is what a hook returns
      '@typescript-eslint/no-unnecessary-type-parameters': 'off', // publish<T>(data: T): the caller's own check
      '@typescript-eslint/no-dynamic-delete': 'off',
      '@typescript-eslint/no-unsafe-class-instance-assignment': 'off', // options of Nest are classes, given as literals
      '@typescript-eslint/unified-signatures': 'off',
      '@typescript-eslint/consistent-type-definitions': 'off',
      '@typescript-eslint/prefer-nullish-coalescing': 'off',
      '@typescript-eslint/class-literal-property-style': 'off',
    },
  },

  {
    name: 'library',
    files: ['lib/**/*.ts'],
    plugins: { project },
    rules: {
      'project/import-table': 'error',
      'project/no-cycle': 'error',
      'project/no-barrel': 'error',
      'project/explained-disable': 'error',
      'no-console': 'error',
      'max-lines': ['error', { max: 400, skipBlankLines: true, skipComments: true }],
      '@typescript-eslint/explicit-module-boundary-types': 'error',
    },
  },

  {
    name: 'tests, samples and benches',
    files: ['{test,sample,bench}/**/*.ts'],
    rules: {
      '@typescript-eslint/no-explicit-any': 'off',
      '@typescript-eslint/no-unsafe-argument': 'off',
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-call': 'off',
      '@typescript-eslint/no-unsafe-member-access': 'off',
      '@typescript-eslint/no-unsafe-return': 'off',
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/unbound-method': 'off',
    },
  },
);
