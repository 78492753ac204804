import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { openStream } from '../../e2e/support/event-stream.js';
import { until } from '../../support/redis-server.js';
import { watchLog } from '../../support/secrets.js';

const root = path.resolve(import.meta.dirname, '../../..');
const ADDRESS = /behind nginx: (http:\/\/localhost:(\d+))/;
const NODE = /^ {2}(node \d): port (\d+), pid (\d+)$/;

/** A process of the sample. */
export interface ClusterNode {
  readonly name: string;
  readonly port: number;
  /** Another one after it was started again. */
  pid: number;
}

/** What `npm run start:cluster` runs: nodes behind nginx. */
export class Cluster {
  readonly nodes: ClusterNode[] = [];
  url = '';
  port = 0;
  redisPort = 0;
  output = '';
  /** Where it may write. */
  readonly directory = mkdtempSync(path.join(tmpdir(), 'cluster-test-'));
  private readonly child;
  private readonly closed: Promise<number | null>;

  private constructor(port: number) {
    const { NODE_OPTIONS: _options, REDIS_URL: _url, ...env } = process.env; // those of jest, and of whoever runs it
    this.child = spawn('npm', ['run', '--silent', 'start:cluster'], {
      cwd: root,
      env: { ...env, PORT: String(port), TMPDIR: this.directory },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true, // a group, as a terminal makes it
    });
    // It ends what it started when it is asked to.
    const end = (): unknown => this.child.kill('SIGTERM');
    process.once('exit', end);
    this.closed = once(this.child, 'close').then(([code]) => {
      process.off('exit', end);
      return code as number | null;
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.output += text;
        watchLog(text);
      });
    }
  }

  /** Resolves when it has told its address. */
  static async start(): Promise<Cluster> {
    const cluster = new Cluster(0);
    let ended = false;
    void cluster.closed.then(() => (ended = true));
    await until(() => ended || cluster.output.includes('Ctrl-C ends everything'), 'the cluster', 180_000);
    if (ended) throw new Error(`The cluster ended before it had started:\n${cluster.output}`);
    const [, url, port] = ADDRESS.exec(cluster.output)!;
    cluster.url = url!;
    cluster.port = Number(port);
    cluster.redisPort = Number(/redis:\/\/127\.0\.0\.1:(\d+)/.exec(cluster.output)![1]);
    for (const line of cluster.output.split('\n')) {
      const [, name, at, pid] = NODE.exec(line) ?? [];
      if (name !== undefined) cluster.nodes.push({ name, port: Number(at), pid: Number(pid) });
    }
    return cluster;
  }

  /** Starts it on a port that is taken; resolves with how it ended. */
  static async startInVain(): Promise<{ output: string; code: number | null; port: number }> {
    const taken: Server = createServer().listen(0);
    await once(taken, 'listening');
    const { port } = taken.address() as AddressInfo;
    const cluster = new Cluster(port);
    const code = await cluster.closed;
    cluster.dispose();
    taken.close();
    await once(taken, 'close');
    return { output: cluster.output, code, port };
  }

  /** Ctrl-C: the signal goes to the whole group. Resolves with the exit code. */
  async interrupt(): Promise<number | null> {
    if (this.child.exitCode === null && this.child.signalCode === null) process.kill(-this.child.pid!, 'SIGINT');
    return this.closed;
  }

  /** Ends everything, if that has not been done yet. */
  async end(): Promise<void> {
    await this.interrupt();
    this.dispose();
  }

  private dispose(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** The id by which the hub of a node goes: asked at that node. */
  async idOf({ port }: ClusterNode): Promise<string> {
    const stream = await openStream(`http://127.0.0.1:${port}/realtime/sse?channels=stats.server`);
    try {
      const { connection } = JSON.parse((await stream.event('$open')).data!) as { connection: string };
      return await this.nodeOf(connection, port);
    } finally {
      stream.close();
    }
  }

  /** The id of the node that serves a connection. */
  async nodeOf(connection: string, port = this.port): Promise<string> {
    let found: string | null = null;
    await until(async () => {
      const response = await fetch(`http://127.0.0.1:${port}/connections/${connection}`);
      ({ node: found } = (await response.json()) as { node: string | null });
      return found !== null;
    }, `the node of connection ${connection}`);
    return found!;
  }

  kill(node: ClusterNode): void {
    process.kill(node.pid, 'SIGKILL');
  }

  /** Resolves when a node that was killed answers again. */
  async isBack(node: ClusterNode): Promise<void> {
    const told = new RegExp(`\\[${node.name}\\] is back, pid (\\d+)`);
    await until(() => told.test(this.output), `${node.name} is back`);
    node.pid = Number(told.exec(this.output)![1]);
  }
}

/** Whether a process is there. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
