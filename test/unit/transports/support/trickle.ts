import { jest } from '@jest/globals';
import type { Socket } from 'node:net';
import type { ManualClock } from '../../../../lib/testing/manual-clock.js';
import type { TestNode } from './node.js';

/** Publications of a round, far more than is read in one. */
const PUBLICATIONS = 20;
const TEXT = 'z'.repeat(60_000);
/** What a peer reads in a round, in chunks of 64 KiB at most. */
const CHUNKS = 3;
/** Rounds between two steps of the clock. */
const ROUNDS = 3;
const STEP_MS = 32;

/** A peer that reads, and never catches up. */
export class Trickle {
  #chunks = 0;
  #read: () => void = () => undefined;

  /** The clock is that of the node's heartbeats; it is taken for the one of links as well until `jest.restoreAllMocks()`. */
  constructor(
    private readonly node: TestNode,
    private readonly socket: Socket,
    private readonly clock: ManualClock,
  ) {
    jest.spyOn(performance, 'now').mockImplementation(() => clock.now());
    socket.pause();
    socket.once('close', () => this.#read());
    socket.removeAllListeners('data').on('data', () => {
      if (--this.#chunks > 0) return;
      socket.pause();
      this.#read();
    });
  }

  /** Lets time pass in steps while the peer reads. */
  async readThrough(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += STEP_MS) {
      for (let round = 0; round < ROUNDS; round++) {
        await this.#publish();
        await this.#readSome();
      }
      this.clock.advance(STEP_MS);
    }
  }

  /** The same, and the peer reads no more. */
  async stallThrough(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += STEP_MS) {
      await this.#publish();
      this.clock.advance(STEP_MS);
    }
  }

  async #publish(): Promise<void> {
    for (let i = 0; i < PUBLICATIONS; i++) await this.node.publish('chat.a', 'message', TEXT);
  }

  /** Resolves when the peer has read what it reads in a round, or is cut off. */
  #readSome(): Promise<void> {
    return new Promise((resolve) => {
      this.#chunks = CHUNKS;
      this.#read = resolve;
      if (this.socket.closed) resolve();
      else this.socket.resume();
    });
  }
}
