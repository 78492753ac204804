// Finds nginx for the cluster, or installs it from the distribution.
import { findExecutable, needPackage, placesOf } from './apt.mjs';

const ADVICE = 'nginx 1.20 or later is needed. Install it (Debian: `apt-get install nginx`) or name it in NGINX_PATH.';

/** The path of an executable nginx; undefined when there is none. */
export function findNginx() {
  return findExecutable([process.env.NGINX_PATH, ...placesOf('nginx')]);
}

/** As `findNginx`, installing it when that is possible; throws with what to do when it is not. */
export function needNginx() {
  return needPackage('nginx', findNginx, ADVICE);
}
