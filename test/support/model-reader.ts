import type { LostData, SubscribeData } from '../../lib/protocol/frames.js';
import type { Batch } from '../../lib/hub/batch.js';
import type { Position } from '../../lib/protocol/position.js';
import { Follower, Violation } from './follower.js';
import type { PeerWorld } from './model-peer.js';

/** A reader inside a node's process, compared with the model log as a peer is. */
export class ModelReader {
  readonly follower: Follower;
  #stop: () => void = () => undefined;
  #wrong: unknown;
  #ended = false;

  constructor(
    readonly who: string,
    private readonly world: PeerWorld,
    private readonly node: number,
    private readonly channel: string,
  ) {
    const nothing = { client: undefined, mayDrop: false };
    this.follower = new Follower(
      world.model,
      channel,
      who,
      () => nothing,
      () => world.wipes,
    );
    this.start(undefined);
  }

  start(since: Position | undefined): void {
    this.#ended = false;
    this.#stop = this.world.fleet.hubs[this.node]!.read(this.channel, since, {
      started: (answer: SubscribeData) => this.#told(() => this.follower.answered(answer, since)),
      publications: ({ items, channel }: Batch) =>
        this.#told(() => {
          for (const { offset, tag, data } of items) this.follower.item(offset, tag, JSON.parse(data) as { n: number });
          if (channel !== this.channel) throw new Violation(`${this.who} gets ${channel}`);
        }),
      lost: (data: LostData) => this.#told(() => this.follower.lost(data)),
      ended: () => {
        this.#ended = true;
        this.follower.ended();
      },
    });
  }

  /** Starts again where it was, if it has ended. */
  restart(): void {
    if (this.#ended) this.start(this.follower.position);
  }

  stop(): void {
    this.#stop();
    this.follower.ended();
  }

  /** P3, and whatever went wrong before. */
  check(): void {
    if (this.#wrong !== undefined) throw this.#wrong as Error;
    const { on, position } = this.follower;
    const top = this.world.model.top(this.channel);
    if (!on || position !== top) throw new Violation(`P3 ${this.who} is at ${position}, not ${top}`);
  }

  /** The hub calls: nothing may be thrown there. */
  #told(check: () => void): void {
    try {
      check();
    } catch (error) {
      this.#wrong ??= error;
    }
  }
}
