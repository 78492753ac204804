import type { Socket } from 'node:net';
import type { TestNode } from './node.js';

/** Publishes to `chat.a` all the time, more than a peer reads that reads all the time. */
export class Trickle {
  readonly #timer: NodeJS.Timeout;
  readonly #socket: Socket;
  #reading = true;

  constructor(node: TestNode, socket: Socket) {
    this.#socket = socket;
    let chunks = 0; // of 64 KiB at most
    socket.removeAllListeners('data').on('data', () => {
      if (--chunks <= 0) socket.pause();
    });
    this.#timer = setInterval(() => {
      for (let i = 0; i < 20; i++) void node.publish('chat.a', 'message', 'z'.repeat(60_000)).catch(() => undefined);
      chunks = 3;
      if (this.#reading) socket.resume();
    }, 10);
  }

  /** The peer reads no more; publishing goes on. */
  stopReading(): void {
    this.#reading = false;
    this.#socket.pause();
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
