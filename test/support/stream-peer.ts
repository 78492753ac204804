import { EventStream, type StreamEvent } from '../unit/transports/support/event-stream.js';
import { PollingPeer, Refused, type PollingOptions, type Waiting } from './polling-peer.js';

/** A peer of a connection with a record that reads streams, and may poll as well; each request goes to where `base` says. */
export class StreamPeer extends PollingPeer {
  /** What came by streams, each frame of the inbox once. */
  readonly frames: any[] = [];
  stream!: EventStream;
  #wake: () => void = () => undefined;

  /** Makes a connection by a stream. */
  static override async connect(base: () => string, options: PollingOptions = {}): Promise<StreamPeer> {
    const peer = new StreamPeer(base, options.headers);
    const { client, channels } = options;
    const { data } = await peer.#open({ client, positions: channels });
    peer.pass = data.pass;
    peer.id = data.connection;
    for (const [name, answer] of Object.entries<any>(data.channels)) {
      if (answer.position !== undefined) peer.positions[name] = answer.position;
    }
    return peer;
  }

  /** Goes on by a new stream; its first frame. */
  async open(): Promise<any> {
    const { pass, inbox, positions } = this;
    return this.#open({ pass, inbox, positions });
  }

  /** Waits until a frame came by a stream that satisfies a condition; all that came since the last call. */
  async received(condition: (frame: any) => boolean): Promise<any[]> {
    for (;;) {
      const at = this.frames.findIndex(condition);
      if (at !== -1) return this.frames.splice(0, at + 1);
      if (this.stream.over) throw new Error('The stream ended early');
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  override begin(): Waiting {
    this.stream.ignore();
    return super.begin();
  }

  /** Cuts the stream: what comes by it is lost. */
  cut(): void {
    this.stream.ignore();
    this.stream.close();
  }

  async #open(body: object): Promise<any> {
    const url = new URL(`${this.base()}/sse`);
    // What comes by the stream before from now on comes again.
    (this.stream as EventStream | undefined)?.ignore();
    const headersSent = { Accept: 'text/event-stream, application/json', ...this.headers };
    const stream = await EventStream.open(Number(url.port), url.pathname, headersSent, body);
    const { statusCode: status = 0, headers } = stream.response;
    if (status !== 200) {
      throw new Refused({ status, headers, body: JSON.parse(await stream.text()) as unknown });
    }
    this.stream = stream;
    const [first] = await stream.take(1);
    let taken = 1;
    const take = (): void => {
      for (const event of stream.events.slice(taken)) this.#take(event);
      taken = stream.events.length;
      this.#wake();
    };
    take();
    stream.onEvents = take;
    return first!.data;
  }

  #take({ block, data }: StreamEvent): void {
    const number = /^id: (\d+)$/m.exec(block)?.[1];
    if (number !== undefined) {
      if (Number(number) <= this.inbox) return;
      this.inbox = Number(number);
    }
    const { channel, event, offset, tag } = data;
    const epoch = this.positions[channel]?.split('-')[0];
    if (offset !== undefined && epoch !== undefined) this.positions[channel] = `${epoch}-${offset}-${tag}`;
    else if (event === '$lost') this.positions[channel] = data.data.position;
    this.frames.push(data);
  }
}
