import type { ArrivalOptions, Fleet } from '../../support/fleet.js';
import type { LinkPeer, ReceivedFrame, TestLink } from '../../support/test-link.js';

/** A peer that keeps what it gets. */
export class Peer implements LinkPeer {
  readonly frames: ReceivedFrame[] = [];
  close: [code: number, reason: string] | undefined;
  readonly link: TestLink;

  constructor(fleet: Fleet, arrival?: ArrivalOptions, node = 0) {
    this.link = fleet.join(node, this, arrival);
  }

  receive(frame: ReceivedFrame): void {
    this.frames.push(frame);
  }

  closed(code: number, reason: string): void {
    this.close = [code, reason];
  }

  /** Sends a frame with an id. */
  ask(id: number, event: string, data?: unknown): void {
    this.link.send({ id, event, data });
  }

  /** The answers to an id. */
  answers(id: number): ReceivedFrame[] {
    return this.frames.filter((frame) => frame.id === id);
  }
}
