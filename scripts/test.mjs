// `npm test`: gets what the tests need, builds, checks types, lint and formatting, and runs every jest project.
// `npm test -- <jest arguments>` runs a part: only what that part needs is prepared, and the checks are skipped.
//   npm test -- --selectProjects unit e2e
//   npm test -- test/unit/position.test.ts
import { mkdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { build } from './build.mjs';
import { needChromium } from './chromium.mjs';
import { needHaproxy } from './haproxy.mjs';
import { needNest11 } from './nest11.mjs';
import { needNginx } from './nginx.mjs';
import { needRedis } from './redis.mjs';
import { bin, mustRun, root, run } from './run.mjs';

const jestArguments = process.argv.slice(2);
const partial = jestArguments.length > 0;
const outcomes = [];
const unsteady = [];

async function step(name, work) {
  console.log(`\n— ${name}`);
  const startedAt = Date.now();
  let failure;
  try {
    await work();
  } catch (error) {
    failure = error.message;
    console.error(failure);
  }
  outcomes.push({ name, failure, seconds: (Date.now() - startedAt) / 1000 });
  return failure === undefined;
}

/** Whether this run reaches a project and its folder, as far as the arguments tell. */
function reaches(projectName, folder = `test/${projectName}`) {
  const at = jestArguments.indexOf('--selectProjects');
  if (at >= 0) {
    const selected = jestArguments.slice(at + 1);
    const end = selected.findIndex((argument) => argument.startsWith('-'));
    return (end < 0 ? selected : selected.slice(0, end)).includes(projectName);
  }
  const paths = jestArguments.filter((argument) => /^(test|sample)\//.test(argument));
  return paths.length === 0 || paths.some((argument) => argument.startsWith(folder));
}

async function prepare() {
  let ready = true;
  const onNest11 = reaches('e2e-nest11', 'test/e2e') || reaches('sample-nest11', 'sample/testing');
  if (onNest11) ready = (await step('Nest 11 for the tests', needNest11)) && ready;
  if (reaches('browser') || reaches('cluster')) {
    const found = async () => {
      process.env.CHROMIUM_PATH = await needChromium();
      console.log(process.env.CHROMIUM_PATH);
    };
    ready = (await step('Chromium', found)) && ready;
  }
  if (['conformance', 'e2e', 'cluster', 'chaos'].some((name) => reaches(name))) {
    const found = async () => {
      process.env.REDIS_SERVER_PATH = await needRedis();
      console.log(process.env.REDIS_SERVER_PATH);
    };
    ready = (await step('Redis', found)) && ready;
  }
  if (reaches('cluster') || reaches('chaos')) {
    const found = async () => {
      process.env.NGINX_PATH = await needNginx();
      console.log(process.env.NGINX_PATH);
    };
    ready = (await step('nginx', found)) && ready;
  }
  if (reaches('chaos')) {
    const found = async () => {
      process.env.HAPROXY_PATH = await needHaproxy();
      console.log(process.env.HAPROXY_PATH);
    };
    ready = (await step('HAProxy', found)) && ready;
  }
  if (!partial || ['package', 'browser', 'cluster', 'chaos'].some((name) => reaches(name)))
    ready = (await step('build', build)) && ready;
  return ready;
}

async function check() {
  await step('types', () => mustRun('npm', ['run', '--silent', 'typecheck']));
  await step('lint', () => mustRun('npm', ['run', '--silent', 'lint']));
  await step('formatting', () => mustRun('npm', ['run', '--silent', 'format:check']));
}

/** Folders of tests that know no other process and no time but a manual one: what fails there fails again. */
const CLOSED_FOLDERS = ['unit', 'property'];
/** More files than this do not fail by chance. */
const MAX_UNSTEADY = 2;

async function jestRun(args) {
  await mkdir(path.join(root, '.build'), { recursive: true });
  const outputFile = path.join(root, '.build', `jest-${process.pid}.json`);
  const nodeOptions = '--experimental-vm-modules --disable-warning=ExperimentalWarning';
  const env = { ...process.env, NODE_OPTIONS: `${process.env.NODE_OPTIONS ?? ''} ${nodeOptions}`.trim() };
  const code = await run('node', [bin.jest, '--json', `--outputFile=${outputFile}`, ...args], { env });
  const result = JSON.parse(await readFile(outputFile, 'utf8').catch(() => 'null')) ?? undefined;
  await rm(outputFile, { force: true });
  if (result === undefined) throw new Error(`jest gave no result (exit code ${code})`);
  return {
    green: code === 0,
    passed: result.numPassedTests,
    skipped: result.numPendingTests + result.numTodoTests,
    failed: result.numFailedTests + result.numRuntimeErrorTestSuites, // a file that could not be run is one
    failedFiles: result.testResults
      .filter(({ status }) => status === 'failed')
      .map(({ name }) => path.relative(root, name)),
  };
}

/** Whether a machine under load may be the reason: few files failed, and none that knows neither time nor other processes. */
function isDoubtful(files) {
  return files.length <= MAX_UNSTEADY && !files.some((file) => CLOSED_FOLDERS.includes(file.split(path.sep)[1]));
}

/**
 * Runs the tests. In a whole run, the few files that failed beside all others are run once more, each alone: one that
 * fails again has failed, one that passes is told as unsteady.
 */
async function jest() {
  let counts;
  await step('tests', async () => {
    counts = await jestRun(jestArguments);
    if (counts.green) return;
    const files = [...new Set(counts.failedFiles)];
    if (partial || !isDoubtful(files)) throw new Error('tests failed');
    for (const file of files) {
      console.log(`\n— once more, alone: ${file}`);
      const again = await jestRun(['--runInBand', '--runTestsByPath', file]);
      if (!again.green) throw new Error(`tests failed twice: ${file}`);
      unsteady.push(file);
    }
    counts = { ...counts, passed: counts.passed + counts.failed, failed: 0 };
  });
  return counts ?? { passed: 0, skipped: 0, failed: 0 };
}

const ready = await prepare();
if (ready && !partial) await check();
const tests = ready ? await jest() : { passed: 0, skipped: 0, failed: 0 };

console.log('\nSummary');
for (const { name, failure, seconds } of outcomes) {
  console.log(
    `  ${failure === undefined ? 'ok    ' : 'FAILED'} ${name} (${seconds.toFixed(1)} s)${failure ? `: ${failure}` : ''}`,
  );
}
for (const file of unsteady) console.log(`  UNSTEADY ${file}: failed beside the others, passed alone`);
if (tests.skipped > 0) console.log(`  ${tests.skipped} tests were skipped`);
// A step that failed counts as one, unless its tests are counted already.
const steps = outcomes.filter(({ name, failure }) => failure && !(name === 'tests' && tests.failed > 0)).length;
const failed = tests.failed + steps;
console.log(`\n${tests.passed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;
