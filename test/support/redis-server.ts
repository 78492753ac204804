import { spawn, type ChildProcess } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** Past any pause of a busy machine: only what never comes takes so long. */
const TIMEOUT_MS = 60_000;
/** After how long a server of a test counts as silent. */
const SILENCE_MS = 20_000;
const POLL_MS = 20;
/** Children die with this process, however it ends. */
const children = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL');
});

/** How a server is started. */
export interface RedisServerOptions {
  /** Lines of the configuration, as arguments: `['appendonly', 'yes']`. */
  readonly config?: readonly string[];
  readonly port?: number;
  /** A Sentinel, whose configuration is in this file. */
  readonly sentinel?: string;
}

/** A Redis of its own, on a free port and in a directory of its own. */
export class RedisServer {
  private child: ChildProcess | undefined;

  private constructor(
    readonly port: number,
    readonly directory: string,
    private readonly options: RedisServerOptions,
  ) {}

  static async start(options: RedisServerOptions = {}): Promise<RedisServer> {
    const port = options.port ?? (await freePort());
    const server = new RedisServer(port, mkdtempSync(path.join(tmpdir(), 'redis-')), options);
    await server.start();
    return server;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  get pid(): number {
    return this.child!.pid!;
  }

  /** Starts the process, once more after it was killed. What it had persisted is there again. */
  async start(): Promise<void> {
    const { config = [], sentinel } = this.options;
    const own = ['--port', String(this.port), '--bind', '127.0.0.1', '--dir', this.directory, '--daemonize', 'no'];
    const args = sentinel === undefined ? [...own, '--save', '', ...config.map(dashed)] : [sentinel, '--sentinel'];
    const child = spawn(process.env.REDIS_SERVER_PATH ?? 'redis-server', args, { stdio: 'ignore' });
    this.child = child;
    children.add(child);
    child.once('exit', () => children.delete(child));
    const ended = (): boolean => child.exitCode !== null || child.signalCode !== null;
    await until(async () => ended() || (await this.send('PING')) === 'PONG', `Redis on port ${this.port}`);
    if (ended()) throw new Error(`Redis on port ${this.port} ended when it was started`);
  }

  /** Sends one command over a connection of its own; the reply as text, `\n` between the elements of arrays. */
  send(...args: (string | number)[]): Promise<string> {
    return sendToRedis(this.port, ...args);
  }

  signal(signal: NodeJS.Signals): void {
    this.child?.kill(signal);
  }

  async kill(): Promise<void> {
    const { child } = this;
    if (child?.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }

  async dispose(): Promise<void> {
    await this.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Sends one command to the Redis at a port of this machine, as {@link RedisServer.send}. */
export async function sendToRedis(port: number, ...args: (string | number)[]): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  try {
    return await request(socket, args.map(String));
  } finally {
    socket.destroy();
  }
}

function dashed(word: string, index: number): string {
  return index % 2 === 0 ? `--${word}` : word;
}

/**
 * A port that nobody listens on, and that stays free while its server is away: the system gives none of these to
 * outgoing connections, nor any of those for the bus of Redis Cluster, which are higher by 10,000.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(10_000, 20_000);
    const server = createServer().listen(port, '127.0.0.1');
    const free = await once(server, 'listening').then(
      () => true,
      () => false,
    );
    if (!free) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
}

/** Resolves once the condition holds. For what another process does without telling. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  timeoutMs = TIMEOUT_MS,
): Promise<void> {
  const deadline = performance.now() + timeoutMs; // tests move Date
  for (;;) {
    if (await Promise.resolve(condition()).catch(() => false)) return;
    if (performance.now() > deadline) throw new Error(`Not within ${timeoutMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

async function request(socket: Socket, args: readonly string[]): Promise<string> {
  const words = args.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`);
  socket.write(`*${args.length}\r\n${words.join('')}`);
  socket.setTimeout(SILENCE_MS, () => socket.destroy(new Error('Redis does not answer')));
  let text = '';
  for await (const chunk of socket) {
    text += String(chunk);
    const reply = readReply(text, 0);
    if (reply === undefined) continue;
    if (text.startsWith('-')) throw new Error(reply.text);
    return reply.text;
  }
  throw new Error('Redis closed the connection');
}

function readReply(text: string, at: number): { text: string; end: number } | undefined {
  const end = text.indexOf('\r\n', at);
  if (end < 0) return undefined;
  const line = text.slice(at + 1, end);
  const next = end + 2;
  if (text[at] === '$') {
    const length = Number(line);
    if (length < 0) return { text: '', end: next };
    // Test data of these replies is ASCII.
    return text.length < next + length + 2
      ? undefined
      : { text: text.slice(next, next + length), end: next + length + 2 };
  }
  if (text[at] !== '*') return { text: line, end: next };
  const parts: string[] = [];
  let to = next;
  for (let i = 0; i < Number(line); i++) {
    const part = readReply(text, to);
    if (part === undefined) return undefined;
    parts.push(part.text);
    to = part.end;
  }
  return { text: parts.join('\n'), end: to };
}
