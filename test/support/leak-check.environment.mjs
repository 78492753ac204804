// The node environment, plus two rules: a test file leaves nothing behind that would keep a process alive, and lets no
// secret get out. Open sockets, servers, child processes, workers and referenced timers fail the file that leaked them;
// so does a secret in a log line, in the message of an error, or in what a server sends.
import { TestEnvironment } from 'jest-environment-node';
import { SECRET_WATCH, SecretWatch } from './secret-watch.mjs';

// ioredis waits for up to 2 s for the end of a connection that it gave up.
const SETTLE_MS = 4_000;
const STEP_MS = 25;

/**
 * Kinds of resources that belong to jest or to Node itself and come and go by themselves. The standard streams and the
 * channel to jest's parent process, pipes or terminals, come into being at their first use, which may be in a test;
 * the pipes of a child process are told by its ProcessWrap.
 */
const IGNORED = new Set([
  'Immediate',
  'TickObject',
  'TTYWrap',
  'PipeWrap',
  'FSReqCallback',
  'FSReqPromise',
  'CloseReq',
  'FileHandle',
  'FSEventWrap',
]);

export default class LeakCheckEnvironment extends TestEnvironment {
  constructor(config, context) {
    super(config, context);
    this.console = context.console;
    this.secrets = new SecretWatch();
    this.global[SECRET_WATCH] = this.secrets;
  }

  async setup() {
    await super.setup();
    this.secrets.start(this.global, this.console);
    this.atStart = countResources();
  }

  async teardown() {
    const leaked = await settledLeaks(this.atStart);
    const told = this.secrets.stop();
    await super.teardown();
    if (told.length > 0) throw new Error(`This test file let secrets get out, in\n  ${told.join('\n  ')}`);
    if (leaked.length > 0) {
      throw new Error(
        `This test file left open handles: ${leaked.join(', ')}. Close every resource where it was created.`,
      );
    }
  }
}

function countResources() {
  const counts = new Map();
  for (const kind of process.getActiveResourcesInfo()) {
    if (!IGNORED.has(kind)) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  return counts;
}

async function settledLeaks(atStart) {
  const deadline = Date.now() + SETTLE_MS;
  for (;;) {
    const leaked = [];
    for (const [kind, count] of countResources()) {
      const extra = count - (atStart.get(kind) ?? 0);
      if (extra > 0) leaked.push(`${extra} × ${kind}`);
    }
    if (leaked.length === 0) return leaked;
    if (Date.now() >= deadline) return [...leaked, ...describeSockets()];
    await new Promise((resolve) => setTimeout(resolve, STEP_MS));
  }
}

function describeSockets() {
  return process
    ._getActiveHandles()
    .filter((handle) => typeof handle.address === 'function' && handle.fd === undefined)
    .map((handle) => {
      const address = handle.address();
      const at = address && typeof address === 'object' ? `${address.address}:${address.port}` : String(address);
      return `${handle.constructor.name} ${at}${handle.remotePort ? ` → :${handle.remotePort}` : ''}`;
    });
}
