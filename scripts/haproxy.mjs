// Finds HAProxy for the tests, or installs it from the distribution.
import { findExecutable, needPackage, placesOf } from './apt.mjs';

const ADVICE =
  'HAProxy 2.4 or later is needed. Install it (Debian: `apt-get install haproxy`) or name it in HAPROXY_PATH.';

/** The path of an executable HAProxy; undefined when there is none. */
export function findHaproxy() {
  return findExecutable([process.env.HAPROXY_PATH, ...placesOf('haproxy')]);
}

/** As `findHaproxy`, installing it when that is possible; throws with what to do when it is not. */
export function needHaproxy() {
  return needPackage('haproxy', findHaproxy, ADVICE);
}
