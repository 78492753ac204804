import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

const UPGRADE = (port: number, path: string, more: string): string =>
  `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
  `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n${more}\r\n`;

const OPCODE = { text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

/** A frame of the hub, as far as a fuzz run looks at it. */
export interface Heard {
  readonly id?: unknown;
  readonly event?: unknown;
  readonly channel?: unknown;
  readonly data?: any;
  readonly error?: { readonly code: string; readonly message: string };
  readonly more?: unknown;
  readonly done?: unknown;
  readonly offset?: number;
}

/** A WebSocket peer that sends bytes as they are, and reads every frame that comes. */
export class RawPeer {
  readonly closed: Promise<void>;
  /** The code of the close frame that came. */
  closeCode: number | undefined;
  onFrame: (frame: Heard) => void = () => undefined;
  #over = false;
  #rest: Buffer = Buffer.alloc(0);
  #opened = false;
  readonly #wake = new Set<() => void>();

  private constructor(readonly socket: Socket) {
    socket.on('error', () => undefined);
    socket.on('data', (bytes: Buffer) => this.#read(bytes));
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()));
    void this.closed.then(() => {
      this.#over = true;
      this.#stir();
    });
  }

  /** Connects, and resolves when the hub has said `$connected`. `headers`: whole lines. */
  static async connect(port: number, { path = '/realtime', headers = '' } = {}): Promise<RawPeer> {
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    const peer = new RawPeer(socket);
    let greeted = false;
    peer.onFrame = ({ event }) => (greeted ||= event === '$connected');
    socket.write(UPGRADE(port, path, headers));
    await peer.until(() => greeted);
    return peer;
  }

  get over(): boolean {
    return this.#over;
  }

  /** Resolves once a condition holds; rejects where the connection is over before. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      if (this.#over) throw new Error('The connection is over');
      await new Promise<void>((resolve) => this.#wake.add(resolve));
    }
  }

  /** Writes, and resolves when the kernel has taken it. */
  async write(bytes: Buffer): Promise<void> {
    if (!this.socket.writable) return;
    if (!this.socket.write(bytes) && !this.#over) await Promise.race([once(this.socket, 'drain'), this.closed]);
  }

  /** Asks for something and waits for its answer; other frames go to `onFrame`. */
  async ask(id: string | number, event: string, data?: unknown): Promise<Heard> {
    const { onFrame } = this;
    let answer: Heard | undefined;
    this.onFrame = (frame) => (frame.id === id ? (answer = frame) : onFrame(frame));
    this.socket.write(clientFrame(JSON.stringify({ id, event, data })));
    await this.until(() => answer !== undefined);
    this.onFrame = onFrame;
    return answer!;
  }

  async end(): Promise<void> {
    this.socket.destroy();
    await this.closed;
  }

  #stir(): void {
    const waiting = [...this.#wake];
    this.#wake.clear();
    for (const wake of waiting) wake();
  }

  #read(bytes: Buffer): void {
    let rest = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    if (!this.#opened) {
      const end = rest.indexOf('\r\n\r\n');
      if (end === -1) return void (this.#rest = rest);
      this.#opened = true;
      rest = rest.subarray(end + 4);
    }
    for (;;) {
      const frame = frameOf(rest);
      if (frame === undefined) break;
      rest = rest.subarray(frame.end);
      if (frame.opcode === OPCODE.text) this.onFrame(JSON.parse(frame.payload.toString()) as Heard);
      else if (frame.opcode === OPCODE.close) {
        this.closeCode = frame.payload.length < 2 ? 1005 : frame.payload.readUInt16BE(0);
        this.socket.end();
      }
    }
    this.#rest = rest;
    this.#stir();
  }
}

export interface FrameOptions {
  opcode?: number;
  fin?: boolean;
  /** The bits RSV1 to RSV3, as they stand in the first byte. */
  reserved?: number;
  masked?: boolean;
}

/** A client's frame, masked with a mask of zeros. */
export function clientFrame(
  payload: Buffer | string,
  { opcode = OPCODE.text, fin = true, reserved = 0, masked = true }: FrameOptions = {},
): Buffer {
  const data = Buffer.from(payload);
  const mask = masked ? 0x80 : 0;
  const head = [(fin ? 0x80 : 0) | reserved | opcode];
  if (data.length < 126) head.push(mask | data.length);
  else if (data.length < 65_536) head.push(mask | 126, data.length >> 8, data.length & 255);
  else head.push(mask | 127, 0, 0, 0, 0, ...lengthBytes(data.length));
  if (masked) head.push(0, 0, 0, 0);
  return Buffer.concat([Buffer.from(head), data]);
}

function lengthBytes(length: number): number[] {
  return [(length >>> 24) & 255, (length >>> 16) & 255, (length >>> 8) & 255, length & 255];
}

/** The first whole frame of some bytes. */
function frameOf(bytes: Buffer): { opcode: number; payload: Buffer; end: number } | undefined {
  if (bytes.length < 2) return undefined;
  const size = bytes[1]! & 127;
  const start = size === 126 ? 4 : size === 127 ? 10 : 2;
  if (bytes.length < start) return undefined;
  const length = size === 126 ? bytes.readUInt16BE(2) : size === 127 ? Number(bytes.readBigUInt64BE(2)) : size;
  const end = start + length;
  if (bytes.length < end) return undefined;
  return { opcode: bytes[0]! & 15, payload: bytes.subarray(start, end), end };
}
