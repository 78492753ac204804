// Finds redis-server for tests and the cluster, or installs it from the distribution.
import { findExecutable, needPackage, placesOf } from './apt.mjs';

const ADVICE =
  'Redis 7 is needed. Install it (Debian: `apt-get install redis-server`) or name redis-server in REDIS_SERVER_PATH.';

/** The path of an executable redis-server; undefined when there is none. */
export function findRedis() {
  return findExecutable([process.env.REDIS_SERVER_PATH, ...placesOf('redis-server')]);
}

/** As `findRedis`, installing it when that is possible; throws with what to do when it is not. */
export function needRedis() {
  return needPackage('redis-server', findRedis, ADVICE);
}
