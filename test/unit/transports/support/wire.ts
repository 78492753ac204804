import { once } from 'node:events';
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { connect, type Socket } from 'node:net';

const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';

/** The headers of an upgrade, as a browser sends them. */
export const UPGRADE = {
  Connection: 'Upgrade',
  Upgrade: 'websocket',
  'Sec-WebSocket-Version': '13',
  'Sec-WebSocket-Key': KEY,
};

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** The body as JSON. */
  readonly json: any;
}

/** One request, answered with a body that ends. */
export async function ask(
  port: number,
  path: string,
  { method = 'GET', headers = {} }: { method?: string; headers?: Record<string, string> } = {},
): Promise<Answer> {
  const request = httpRequest({ port, host: '127.0.0.1', path, method, headers, agent: false });
  request.end();
  const [response] = await once(request, 'response');
  let body = '';
  for await (const chunk of response.setEncoding('utf8')) body += String(chunk);
  const json = String(response.headers['content-type']).includes('json') && body !== '' ? JSON.parse(body) : undefined;
  return { status: response.statusCode, headers: response.headers, body, json };
}

/** A refused upgrade: the answer on the bare socket. */
export async function askUpgrade(port: number, path: string, headers: Record<string, string> = {}): Promise<Answer> {
  const wire = await RawWire.upgrade(port, path, headers);
  await wire.ended;
  const [head = '', body = ''] = wire.text.split('\r\n\r\n');
  const [status = '', ...lines] = head.split('\r\n');
  const pairs = lines.map((line) => [
    line.slice(0, line.indexOf(':')).toLowerCase(),
    line.slice(line.indexOf(':') + 2),
  ]);
  return {
    status: Number(status.split(' ')[1]),
    headers: Object.fromEntries(pairs),
    body,
    json: body.startsWith('{') ? JSON.parse(body) : undefined,
  };
}

/** A bare connection: what was sent, byte by byte. */
export class RawWire {
  #bytes = Buffer.alloc(0);
  #wake: () => void = () => undefined;
  #headTaken = false;
  over = false;
  readonly ended: Promise<void>;

  private constructor(readonly socket: Socket) {
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.#wake();
    });
    this.ended = new Promise((resolve) =>
      socket.once('close', () => {
        this.over = true;
        this.#wake();
        resolve();
      }),
    );
  }

  static async open(port: number): Promise<RawWire> {
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    return new RawWire(socket);
  }

  /** Sends the head of an upgrade, with bytes right behind it. */
  static async upgrade(
    port: number,
    path: string,
    headers: Record<string, string> = {},
    behind: Buffer = Buffer.alloc(0),
  ): Promise<RawWire> {
    const wire = await RawWire.open(port);
    wire.socket.write(Buffer.concat([Buffer.from(head('GET', path, port, { ...UPGRADE, ...headers })), behind]));
    return wire;
  }

  static async get(port: number, path: string, headers: Record<string, string> = {}): Promise<RawWire> {
    const wire = await RawWire.open(port);
    wire.socket.write(head('GET', path, port, headers));
    return wire;
  }

  get bytes(): Buffer {
    return this.#bytes;
  }

  get text(): string {
    return this.#bytes.toString();
  }

  /** Waits until what came satisfies a condition. */
  async until(condition: (wire: this) => boolean): Promise<void> {
    while (!condition(this)) {
      if (this.over) throw new Error(`The connection ended early, after: ${this.text.slice(-500)}`);
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** Waits for a WebSocket frame (at most 64 KiB) and takes it. */
  async frame(): Promise<{ opcode: number; payload: Buffer }> {
    if (!this.#headTaken) await this.head();
    await this.until((wire) => frameLength(wire.#bytes) <= wire.#bytes.length);
    const length = frameLength(this.#bytes);
    const [first = 0, size = 0] = this.#bytes;
    const opcode = first & 15;
    const payload = this.#bytes.subarray(size === 126 ? 4 : 2, length);
    this.#bytes = this.#bytes.subarray(length);
    return { opcode, payload };
  }

  /** Takes the head of the response. */
  async head(): Promise<string> {
    await this.until((wire) => wire.#bytes.includes('\r\n\r\n'));
    const end = this.#bytes.indexOf('\r\n\r\n') + 4;
    const text = this.#bytes.subarray(0, end).toString();
    this.#bytes = this.#bytes.subarray(end);
    this.#headTaken = true;
    return text;
  }
}

/** A client's frame: masked, with a mask of zeros. */
export function clientFrame(payload: Buffer | string, first = 0x81): Buffer {
  const data = Buffer.from(payload);
  const size = data.length < 126 ? [0x80 | data.length] : [0x80 | 126, data.length >> 8, data.length & 255];
  return Buffer.concat([Buffer.from([first, ...size, 0, 0, 0, 0]), data]);
}

/** The close frame of a client. */
export function clientClose(code: number, reason = ''): Buffer {
  return clientFrame(Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason)]), 0x88);
}

function frameLength(bytes: Buffer): number {
  if (bytes.length < 2) return Infinity;
  if (bytes[1]! < 126) return 2 + bytes[1]!;
  return bytes.length < 4 ? Infinity : 4 + bytes.readUInt16BE(2);
}

function head(method: string, path: string, port: number, headers: Record<string, string>): string {
  const all = { Host: `127.0.0.1:${port}`, ...headers };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n`;
}
