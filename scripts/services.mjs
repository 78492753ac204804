// Processes that run until they are stopped, and are started again when they end before.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';

const POLL_MS = 50;
const START_MS = 30_000;
const STOP_MS = 15_000;
const RESTART_AFTER_MS = 1_000;

const running = new Set();
process.on('exit', () => {
  for (const child of running) killGroup(child);
});

/** A child and what it started: the workers of nginx outlive a master that was killed. */
function killGroup(child) {
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // Nobody is left.
  }
}

export class Service {
  #child;
  #stopping = false;
  #restart;

  /** `isUp` tells whether it answers; `hides` tells which lines of its output are not worth repeating. */
  constructor(name, { command, args, env, isUp, hides = () => false }) {
    Object.assign(this, { name, command, args, env, isUp, hides });
  }

  get pid() {
    return this.#child?.pid;
  }

  /** Resolves once it answers; rejects when it ends before. */
  async start() {
    if (this.#stopping) return;
    const child = (this.#child = spawn(this.command, this.args, {
      env: { ...process.env, ...this.env },
      stdio: ['ignore', 'pipe', 'pipe'],
      // A group of its own: Ctrl-C reaches this process only, which ends the others in order.
      detached: true,
    }));
    running.add(child);
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => this.hides(line) || this.#say(line));
    }
    let outcome;
    const ended = new Promise((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
    }).then((how) => {
      running.delete(child);
      killGroup(child);
      outcome = how;
    });

    for (const deadline = Date.now() + START_MS; outcome === undefined;) {
      if (await this.isUp().catch(() => false)) {
        void ended.then(() => this.#endedEarly(outcome));
        return;
      }
      if (Date.now() > deadline) throw new Error(`${this.name} did not answer within ${START_MS / 1000} s`);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    throw new Error(`${this.name} ended before it answered (${outcome})`);
  }

  /** Resolves when it has ended. Idempotent; it is not started again. */
  async stop() {
    this.#stopping = true;
    clearTimeout(this.#restart);
    const child = this.#child;
    if (!running.has(child)) return;
    const exited = once(child, 'exit');
    child.kill('SIGTERM');
    const impatient = setTimeout(() => killGroup(child), STOP_MS);
    await exited;
    clearTimeout(impatient);
  }

  #endedEarly(how) {
    if (this.#stopping) return;
    this.#say(`ended (${how}); it is started again`);
    this.#restartSoon();
  }

  #restartSoon() {
    this.#restart = setTimeout(async () => {
      try {
        await this.start();
        if (!this.#stopping) this.#say(`is back, pid ${this.pid}`);
      } catch (error) {
        if (this.#stopping) return;
        this.#say(error.message);
        killGroup(this.#child);
        this.#restartSoon();
      }
    }, RESTART_AFTER_MS);
  }

  #say(text) {
    console.log(`[${this.name}] ${text}`);
  }
}

/** The first free port from `from` on; any free port where that is 0. */
export async function freePort(from) {
  for (let port = from; ; port++) {
    const free = await listenOnce(port);
    if (free !== undefined) return free;
  }
}

/** Whether nobody listens on a port. */
export async function isFree(port) {
  return (await listenOnce(port)) !== undefined;
}

async function listenOnce(port) {
  const server = createServer().listen(port);
  try {
    await once(server, 'listening');
  } catch (error) {
    if (error.code === 'EADDRINUSE') return undefined;
    throw error;
  }
  const { port: found } = server.address();
  server.close();
  await once(server, 'close');
  return found;
}
