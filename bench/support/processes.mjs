// Servers and load generators: processes of their own, each kind on a core of its own where taskset is there.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const bench = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const children = new Set();
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL');
});

const cores = allowedCores();
export const pinned = cores.length > 1 && spawnSync('taskset', ['-V']).status === 0;

/** Raises the limit of open files as far as it goes, then becomes the command. */
const RAISE = 'ulimit -n "$(ulimit -H -n)" 2>/dev/null; exec "$@"';

function start(core, command, options) {
  const pin = pinned ? ['taskset', '-c', String(core)] : [];
  const child = spawn('/bin/sh', ['-c', RAISE, 'sh', ...pin, ...command], options);
  children.add(child);
  child.once('exit', () => children.delete(child));
  return child;
}

/** Starts what no server is, on the load generator's core. */
export function startBeside(command, options) {
  return start(cores[1] ?? cores[0], command, options);
}

/** Keeps this process off the core of the servers. */
export function pinSelf() {
  if (pinned) spawnSync('taskset', ['-acp', String(cores[1]), String(process.pid)]);
}

/** A process that is asked by IPC. */
class Asked {
  #child;
  #nextId = 1;
  #waiting = new Map();

  constructor(core, file, { env = {}, execArgv = [] } = {}) {
    this.#child = start(core, [process.execPath, '--expose-gc', ...execArgv, path.join(bench, file)], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      env: { ...process.env, NODE_ENV: 'production', ...env },
    });
    this.#child.on('message', ({ id, answer }) => {
      this.#waiting.get(id)?.(answer);
      this.#waiting.delete(id);
    });
  }

  get child() {
    return this.#child;
  }

  ask(command, rest = {}) {
    const id = this.#nextId++;
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.#child.send({ id, command, ...rest });
    });
  }
}

export class Server extends Asked {
  /** Starts servers/<name>.mjs; resolves when it listens. */
  static async start(name, options) {
    const server = new Server(cores[0], `servers/${name}.mjs`, options);
    server.port = await new Promise((resolve, reject) => {
      server.child.once('exit', (code) => reject(new Error(`The server "${name}" ended with ${code}`)));
      server.child.once('message', ({ port }) => resolve(port));
    });
    return server;
  }

  async stop() {
    const ended = once(this.child, 'exit');
    this.child.send({ id: 0, command: 'end' });
    await ended;
  }
}

/** Peers in a process of JavaScript: load/<name>.mjs. */
export class Peers extends Asked {
  static start(name) {
    return new Peers(cores[1] ?? cores[0], `load/${name}.mjs`);
  }

  async stop() {
    const ended = once(this.child, 'exit');
    this.child.disconnect();
    await ended;
  }
}

/** How the headers of every peer look: a browser's. */
function openingRequest(path, port, headers, stream) {
  const own = stream
    ? ['Connection: keep-alive', 'Accept: text/event-stream']
    : [
        'Connection: Upgrade',
        'Upgrade: websocket',
        'Sec-WebSocket-Version: 13',
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
      ];
  return [
    `GET ${path} HTTP/1.1`,
    `Host: 127.0.0.1:${port}`,
    ...own,
    'Pragma: no-cache',
    'Cache-Control: no-cache',
    'User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36',
    `Origin: http://127.0.0.1:${port}`,
    'Accept-Encoding: gzip, deflate, br, zstd',
    'Accept-Language: en-GB,en;q=0.9',
    ...headers,
    '\r\n',
  ]
    .join('\r\n')
    .replaceAll('\r\n', '\\r\\n');
}

export class Load {
  #child;
  #waiting = [];

  static start() {
    const load = new Load();
    const child = startBeside(generator(), { stdio: ['pipe', 'pipe', 'inherit'] });
    load.#child = child;
    createInterface({ input: child.stdout }).on('line', (line) => {
      const [kind, ...fields] = line.split('\t');
      if (kind === 'failed') throw new Error(`The load generator: ${fields[0]}`);
      load.#waiting.shift()(fields.map(Number));
    });
    return load;
  }

  #ask(...fields) {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#child.stdin.write(`${fields.join('\t')}\n`);
    });
  }

  /**
   * Opens connections. `dialect`: path and more headers; the frame to wait for, the one to send, the one that makes ready;
   * whether it is an event stream.
   */
  open(port, count, { path, headers = [], trigger = '', greeting = '', ready = '', stream = false }) {
    return this.#ask('open', port, count, openingRequest(path, port, headers, stream), trigger, greeting, ready);
  }

  /** Resolves when so many messages came since the last call. */
  async count(messages) {
    const [got, bytes] = await this.#ask('count', messages);
    return { messages: got, bytes };
  }

  /** Sends requests, `depth` of each connection in flight, until `total` were answered. `#` in text is a number. */
  async request(depth, total, text) {
    const [got, bytes] = await this.#ask('request', depth, total, text);
    return { messages: got, bytes };
  }

  /** How late the stamped messages came that were counted since the last call, µs, in ascending order. */
  delays() {
    return this.#ask('delays');
  }

  /** Messages that came since the last answer. */
  async take() {
    return (await this.#ask('take'))[0];
  }

  /** CPU time so far, µs. */
  async usage() {
    return (await this.#ask('usage'))[0];
  }

  async stop() {
    const ended = once(this.#child, 'exit');
    this.#child.stdin.end();
    await ended;
  }
}

let compiled;

/** The command of the load generator: compiled if there is a compiler. */
function generator() {
  return (compiled ??= compile() ?? [process.execPath, path.join(bench, 'load/load.mjs')]);
}

export function generatorName() {
  return generator().length === 1 ? 'C++' : 'JavaScript';
}

function compile() {
  if (process.env.BENCH_LOAD === 'js') return undefined;
  const source = path.join(bench, 'load/load.cpp');
  const folder = path.join(bench, '../.build');
  const output = path.join(folder, 'bench-load');
  mkdirSync(folder, { recursive: true });
  if (existsSync(output) && statSync(output).mtimeMs > statSync(source).mtimeMs) return [output];
  const { status } = spawnSync('g++', ['-O2', '-std=c++17', '-o', output, source], { stdio: 'inherit' });
  return status === 0 ? [output] : undefined;
}

/** The cores that this process may use. */
function allowedCores() {
  try {
    const [, list] = /Cpus_allowed_list:\s*(\S+)/.exec(readFileSync('/proc/self/status', 'utf8'));
    return list.split(',').flatMap((range) => {
      const [from, to = from] = range.split('-').map(Number);
      return Array.from({ length: to - from + 1 }, (_, i) => from + i);
    });
  } catch {
    return [0];
  }
}
