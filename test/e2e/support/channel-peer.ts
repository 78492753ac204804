import type { ClientOptions } from 'ws';
import { connect, type Frame, type Peer } from './gateway-peer.js';
import type { RunningApp } from './platforms.js';

/** A peer that keeps answers apart from everything else: between the two there is no order. */
export class ChannelPeer {
  readonly #answers = new Map<number, (frame: Frame) => void>();
  readonly #frames: Frame[] = [];
  readonly #waiting: ((frame: Frame) => void)[] = [];
  #id = 0;

  private constructor(private readonly peer: Peer) {
    void this.#read();
  }

  static async connect(app: Pick<RunningApp, 'port'>, path?: string, options?: ClientOptions): Promise<ChannelPeer> {
    return new ChannelPeer(await connect(app, path, options));
  }

  /** How the connection ended. */
  get closed(): Promise<{ code: number; reason: string }> {
    return this.peer.closed;
  }

  /** Sends a request, and resolves with the data of its answer, or with its error. */
  async ask(event: string, data: unknown): Promise<any> {
    const id = ++this.#id;
    const answered = new Promise<Frame>((resolve) => this.#answers.set(id, resolve));
    this.peer.send({ id, event, data });
    const answer = await answered;
    return 'error' in answer ? answer.error : answer.data;
  }

  send(frame: Frame): void {
    this.peer.send(frame);
  }

  /** The next frame that is no answer and has not been asked for. */
  next(): Promise<Frame> {
    const frame = this.#frames.shift();
    return frame === undefined ? new Promise((resolve) => this.#waiting.push(resolve)) : Promise.resolve(frame);
  }

  /**
   * What came, and was not asked for, until the hub answered two requests, one after the other: the first comes back
   * when everything that earlier frames caused in their own turn has happened, the second when that has arrived.
   */
  async settle(): Promise<Frame[]> {
    await this.ask('$cancel', { id: 0 });
    await this.ask('$cancel', { id: 0 });
    return this.#frames.splice(0);
  }

  async close(): Promise<void> {
    await this.peer.close();
  }

  /** Breaks the link. */
  terminate(): void {
    this.peer.socket.terminate();
  }

  async #read(): Promise<never> {
    for (;;) {
      const frame = await this.peer.next();
      const answer = this.#answers.get(frame.id);
      this.#answers.delete(frame.id);
      const next = answer ?? this.#waiting.shift();
      if (next === undefined) this.#frames.push(frame);
      else next(frame);
    }
  }
}
