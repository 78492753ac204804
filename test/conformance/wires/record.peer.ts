import { post } from '../../support/polling-peer.js';
import type { TestNode } from '../../unit/transports/support/node.js';
import { WirePeer, type Frame, type Wish } from './wire.js';

/** A peer of a connection with a record: any of its requests may go to any node, and what it sends are requests too. */
export abstract class RecordPeer extends WirePeer {
  /** Where it is in each channel. */
  positions: Record<string, string> = {};
  /** The frames of the inbox up to here have arrived. */
  inbox = 0;
  pass = '';
  protected url: string;
  protected gone = false;
  #seq = 0;
  #sent: Promise<void> = Promise.resolve();
  #isPaused = false;
  #go: () => void = () => undefined;

  constructor(node: TestNode) {
    super();
    this.url = urlOf(node);
  }

  /** Takes what the hub told when it made the connection. */
  begin({ data: { channels, ...data }, ...hello }: Frame): void {
    this.hello = { ...hello, data };
    this.channels = channels;
  }

  send(frame: object): void {
    const send = async (): Promise<void> => {
      const body = { pass: this.pass, seq: ++this.#seq, frames: [frame] };
      const reply = await post(`${this.url}/send`, body).reply;
      for (const answer of reply.body.frames ?? []) this.received(answer);
    };
    this.#sent = this.#sent.then(send).catch(() => undefined);
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#go();
  }

  leave(): void {
    this.break();
  }

  override moveTo(node: TestNode): void {
    this.url = urlOf(node);
  }

  /** Waits while it reads nothing. */
  protected async reads(): Promise<void> {
    if (this.#isPaused) await new Promise<void>((resolve) => (this.#go = resolve));
  }

  /** Its next request was refused: its connection is over, or this node does not go on with it. */
  protected refused(status: number, { code, details }: { code: string; details?: Frame }): void {
    if (status !== 410) this.over({ told: this.told, wire: { status, code } });
    else this.over({ told: this.told ?? details?.disconnect, wire: { status, code, told: details?.disconnect } });
  }
}

export const urlOf = ({ host }: TestNode): string => `http://${host}/realtime`;

export function headersOf({ token, headers }: Wish): Record<string, string> {
  return { ...headers, ...(token === undefined ? {} : { Authorization: `Bearer ${token}` }) };
}
