import type { RealtimeService } from '../../../lib/index.js';
import { RawPeer } from './raw-peer.js';

/**
 * A healthy peer beside hostile ones: it asks, waits for the answer and asks again, and reads a channel to which each
 * of its rounds is published.
 */
export class Neighbour {
  /** Questions that were answered. */
  rounds = 0;
  /** The most frames that others sent between a question and its answer. */
  mostBetween = 0;
  readonly missed: string[] = [];
  #others = 0;
  #seen = 0;
  #leaving = false;
  #running: Promise<void> = Promise.resolve();

  private constructor(
    private readonly peer: RawPeer,
    private readonly realtime: RealtimeService,
  ) {
    peer.onFrame = ({ channel, offset, data }) => {
      if (channel === undefined) return;
      if (channel !== 'healthy' || offset !== this.#seen + 1 || data?.round !== offset) {
        this.missed.push(`after ${this.#seen} came ${JSON.stringify({ channel, offset })}`);
      }
      this.#seen = offset ?? this.#seen;
    };
  }

  static async join(port: number, realtime: RealtimeService): Promise<Neighbour> {
    const peer = await RawPeer.connect(port);
    const neighbour = new Neighbour(peer, realtime);
    await peer.ask('join', '$subscribe', { channel: 'healthy' });
    neighbour.#running = neighbour.#run();
    return neighbour;
  }

  /** Others sent so many frames. */
  othersSent(count: number): void {
    this.#others += count;
  }

  /** Ends asking, and says what it saw: all that was published has come by then. */
  async settle(): Promise<this> {
    this.#leaving = true;
    await this.#running;
    await this.peer.until(() => this.#seen >= this.rounds).catch(() => this.missed.push('the connection was ended'));
    return this;
  }

  async leave(): Promise<void> {
    await this.settle();
    await this.peer.end();
  }

  async #run(): Promise<void> {
    while (!this.#leaving && !this.peer.over) {
      const before = this.#others;
      const round = this.rounds + 1;
      const [{ data }] = await Promise.all([
        this.peer.ask(round, 'echo', round),
        this.realtime.publish('healthy', 'round', { round }),
      ]);
      if (data?.echoed !== round) this.missed.push(`${JSON.stringify(data)} answers ${round}`);
      this.mostBetween = Math.max(this.mostBetween, this.#others - before);
      this.rounds = round;
    }
  }
}
