import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';

/** Children die with this process, however it ends. */
const children = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL');
});

/** How an application finds its Redis. */
export type RedisSource =
  | { readonly url: string }
  | { readonly sentinels: readonly { host: string; port: number }[] }
  | { readonly cluster: readonly { host: string; port: number }[] };

/** What the applications of a test share. */
export interface AppSettings {
  readonly redis: RedisSource;
  /** Far below the 30 s of an installation, so that what a lease bounds happens within a test. */
  readonly leaseMs: number;
  /** How long a member whose link was lost stays a member. */
  readonly graceMs: number;
  /** Where nodes note their connection hooks, one line of JSON each. */
  readonly hooksFile: string;
  /** How long a disconnection hook lasts. */
  readonly hookMs: number;
  /** Where a node listens; 0 for any port. */
  readonly port: number;
}

/** A process of its own with an application: `node`, which serves peers, or `publisher`, a worker. */
export class App<Ready> {
  private readonly answers = new Map<number, { resolve: (answer: never) => void; reject: (error: Error) => void }>();
  private lastId = 0;
  /** When it was killed. */
  killedAt: number | undefined;

  private constructor(
    readonly name: string,
    private readonly child: ChildProcess,
    readonly ready: Ready,
  ) {
    child.on('message', ({ id, answer, error }: { id: number; answer: never; error?: string }) => {
      const waiting = this.answers.get(id);
      this.answers.delete(id);
      if (error === undefined) waiting?.resolve(answer);
      else waiting?.reject(new Error(`${name}: ${error}`));
    });
    child.once('exit', () => {
      for (const { reject } of this.answers.values()) reject(new Error(`${name} has ended`));
    });
  }

  static async start<Ready>(script: 'node' | 'publisher', name: string, settings: AppSettings): Promise<App<Ready>> {
    const file = path.join(import.meta.dirname, `${script}.mjs`);
    const { NODE_OPTIONS: _jest, ...env } = process.env;
    const child = spawn(process.execPath, [file], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      env: { ...env, CHAOS_SETTINGS: JSON.stringify({ ...settings, name }) },
    });
    children.add(child);
    child.once('exit', () => children.delete(child));
    const ready = await new Promise<Ready>((resolve, reject) => {
      child.once('message', (message: { ready: Ready }) => resolve(message.ready));
      child.once('exit', (code, signal) => reject(new Error(`${name} ended with ${code ?? signal} before it began`)));
    });
    return new App(name, child, ready);
  }

  ask<T>(command: string, rest: object = {}): Promise<T> {
    const id = ++this.lastId;
    return new Promise((resolve, reject) => {
      this.answers.set(id, { resolve, reject });
      this.child.send({ id, command, ...rest });
    });
  }

  /** As a machine that loses its power. */
  async kill(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = once(this.child, 'exit');
    this.killedAt ??= Date.now();
    this.child.kill('SIGKILL');
    await ended;
  }
}
