// Jest as ESM: run with NODE_OPTIONS=--experimental-vm-modules, which scripts/test.mjs sets.
const swc = [
  '@swc/jest',
  {
    swcrc: false,
    configFile: false,
    jsc: {
      target: 'es2022',
      parser: { syntax: 'typescript', decorators: true },
      transform: { legacyDecorator: true, decoratorMetadata: true, useDefineForClassFields: true },
      keepClassNames: true,
    },
    module: { type: 'es6' },
    sourceMaps: 'inline',
  },
];

// TypeScript sources name their neighbours by the compiled name: './hub.js' is './hub.ts'.
const compiledNames = { '^(\\.{1,2}/.*)\\.js$': '$1' };

// The library by its package name, so that the sample's sources run untouched.
const librarySource = {
  '^nestjs-realtime$': '<rootDir>/lib/index.ts',
  '^nestjs-realtime/client$': '<rootDir>/lib/client/index.ts',
  '^nestjs-realtime/client/rxjs$': '<rootDir>/lib/rxjs/observables.ts',
  '^nestjs-realtime/jwt$': '<rootDir>/lib/jwt.ts',
  '^nestjs-realtime/opentelemetry$': '<rootDir>/lib/opentelemetry.ts',
  '^nestjs-realtime/prometheus$': '<rootDir>/lib/prometheus.ts',
  '^nestjs-realtime/redis$': '<rootDir>/lib/redis.ts',
  '^nestjs-realtime/terminus$': '<rootDir>/lib/terminus.ts',
  '^nestjs-realtime/testing$': '<rootDir>/lib/testing/index.ts',
  '^nestjs-realtime/throttler$': '<rootDir>/lib/throttler.ts',
};

// The older major versions of what has two: Nest, and jose.
const nest11 = {
  '^@nestjs/([^/]+)(/.*)?$': '<rootDir>/test/nest11/node_modules/@nestjs/$1$2',
  '^jose$': '<rootDir>/test/nest11/node_modules/jose/dist/node/esm/index.js',
};

function project(name, { folder = name, root = 'test', mapper = {}, ignore = [], ...rest } = {}) {
  return {
    displayName: name,
    rootDir: import.meta.dirname,
    testMatch: [`<rootDir>/${root}/${folder}/**/*.test.ts`],
    testPathIgnorePatterns: ['/node_modules/', '<rootDir>/test/package/quickstart/', ...ignore],
    modulePathIgnorePatterns: [
      '<rootDir>/dist/',
      '<rootDir>/dist-sample/',
      '<rootDir>/.build/',
      '<rootDir>/test/package/quickstart/',
    ],
    testEnvironment: '<rootDir>/test/support/leak-check.environment.mjs',
    extensionsToTreatAsEsm: ['.ts'],
    transform: { '^.+\\.ts$': swc },
    moduleNameMapper: { ...mapper, ...compiledNames },
    ...rest,
  };
}

export default {
  maxWorkers: 2,
  // Above the deadlines in tests, which are above any pause of a busy machine: they say what did not happen.
  testTimeout: 90_000,
  projects: [
    project('unit', { mapper: librarySource }),
    project('conformance', { mapper: librarySource }),
    project('property', { mapper: librarySource }),
    project('e2e', { mapper: librarySource, ignore: ['\\.nest11\\.test\\.ts$'] }),
    project('e2e-nest11', {
      folder: 'e2e',
      mapper: { ...librarySource, ...nest11 },
      ignore: ['\\.nest12\\.test\\.ts$'],
    }),
    project('hostile', { mapper: librarySource }),
    project('browser', { mapper: librarySource }),
    project('cluster', { mapper: librarySource }),
    project('chaos', { mapper: librarySource }),
    project('sample', { root: 'sample', folder: 'testing', mapper: librarySource }),
    project('sample-nest11', { root: 'sample', folder: 'testing', mapper: { ...librarySource, ...nest11 } }),
    project('package'),
  ],
};
