import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { freePort, until } from '../../support/redis-server.js';
import { reset } from '../../../lib/testing/reset.js';

const children = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of children) killGroup(child);
});

const configs = path.resolve(import.meta.dirname, '../../../sample/cluster');

/** A load balancer, and how it is run with a configuration of sample/cluster. */
export interface LoadBalancerKind {
  readonly name: 'nginx' | 'HAProxy';
  readonly config: string;
  command(file: string, directory: string): [string, ...string[]];
}

export const nginx: LoadBalancerKind = {
  name: 'nginx',
  config: 'nginx.conf',
  command: (file, directory) => [
    process.env.NGINX_PATH ?? 'nginx',
    ...['-p', directory, '-e', 'stderr', '-c', file, '-g', 'daemon off;'],
  ],
};

export const haproxy: LoadBalancerKind = {
  name: 'HAProxy',
  config: 'haproxy.cfg',
  command: (file) => [process.env.HAPROXY_PATH ?? 'haproxy', '-db', '-f', file],
};

/** A load balancer in front of nodes, with the configuration that is shipped. */
export class LoadBalancer {
  private constructor(
    readonly port: number,
    private readonly directory: string,
    private readonly child: ChildProcess,
  ) {}

  static async start(kind: LoadBalancerKind, nodes: readonly number[]): Promise<LoadBalancer> {
    const port = await freePort();
    const directory = mkdtempSync(path.join(tmpdir(), 'load-balancer-'));
    chmodSync(directory, 0o755); // where root starts nginx, its workers are somebody else
    const file = path.join(directory, kind.config);
    writeFileSync(file, configure(readFileSync(path.join(configs, kind.config), 'utf8'), port, nodes));
    const [program, ...args] = kind.command(file, directory);
    const { NODE_OPTIONS: _jest, ...env } = process.env;
    const child = spawn(program, args, { env, stdio: ['ignore', 'ignore', 'pipe'], detached: true });
    children.add(child);
    let output = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (output += text));
    let ended = false;
    child.once('error', (error) => (output += error.message));
    child.once('close', () => {
      ended = true;
      children.delete(child);
    });
    const balancer = new LoadBalancer(port, directory, child);
    await until(async () => ended || (await fetch(balancer.origin)).status === 404, kind.name);
    if (!ended) return balancer;
    await balancer.dispose();
    throw new Error(`${kind.name} ended when it was started: ${output}`);
  }

  get origin(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get url(): string {
    return `${this.origin}/realtime`;
  }

  async dispose(): Promise<void> {
    if (children.has(this.child)) {
      const closed = once(this.child, 'close');
      killGroup(this.child);
      await closed;
    }
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** The shipped configuration with other ports, and as many nodes as there are. */
function configure(text: string, port: number, nodes: readonly number[]): string {
  const lines = text.split('\n').map((line) => line.replace(/\b(listen |bind :)3000\b/, `$1${port}`));
  const servers = lines.filter((line) => /^ +server .*127\.0\.0\.1:300\d/.test(line));
  const at = lines.indexOf(servers[0]!);
  const ours = nodes.map((node, i) =>
    servers[0]!.replace(/127\.0\.0\.1:\d+/, `127.0.0.1:${node}`).replace('node1', `node${i + 1}`),
  );
  return [...lines.slice(0, at), ...ours, ...lines.slice(at).filter((line) => !servers.includes(line))].join('\n');
}

/** The workers of nginx outlive a master that was killed. */
function killGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // Nobody is left.
  }
}

/** Stands where a node was, takes requests, and dies with each before it answers. */
export class DyingNode {
  private readonly server: Server = createServer((socket) => this.accept(socket));
  /** The first lines of the requests that it took. */
  readonly requests: string[] = [];

  static async start(port: number): Promise<DyingNode> {
    const node = new DyingNode();
    node.server.listen(port, '127.0.0.1');
    await once(node.server, 'listening');
    return node;
  }

  async dispose(): Promise<void> {
    const closed = once(this.server, 'close');
    this.server.close();
    await closed;
  }

  private accept(socket: Socket): void {
    socket.on('error', () => undefined);
    socket.once('data', (data) => {
      this.requests.push(String(data).split('\r\n', 1)[0]!);
      reset(socket);
    });
  }
}
