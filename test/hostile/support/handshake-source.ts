import type { Random } from './random.js';

const PATHS = [
  '/realtime',
  '/realtime/',
  '/realtime/sse?channels=chat.a',
  '/realtime/sse?channels=open,chat.b',
  '/rooms/7',
];

const STRANGE_PATHS: readonly string[] = [
  '',
  '*',
  '//',
  '/realtime%',
  '/realtime/%00',
  '/realtime/sse',
  '/realtime/sse?channels=',
  '/realtime/sse?channels=chat.a,chat.a',
  '/realtime/sse?channels=chat.a%0d%0aX-Injected:%201',
  '/realtime/sse?channels=%',
  '/realtime/sse?channels=%E0%A4%A',
  '/realtime/sse?channels[]=chat.a',
  '/realtime/sse?channels=__proto__',
  '/realtime/sse?__proto__=1&constructor=2&channels=chat.a',
  `/realtime/sse?channels=${Array.from({ length: 500 }, (_, i) => `chat.${i}`).join(',')}`,
  '/realtime/sse?channels=chat.a&lastEventId=1~0:%0d%0a',
  '/realtime/sse?channels=chat.a&format=constructor',
  '/realtime/sse?channels=chat.a&client=%0d%0a',
  `/realtime/sse?channels=${'x'.repeat(3_000)}`,
  `/realtime?${'a=1&'.repeat(2_000)}`,
  `/realtime/${'x'.repeat(12_000)}`,
  `/${'../'.repeat(500)}etc/passwd`,
  '/rooms/%E0%A4%A',
  '/rooms/%2e%2e%2f',
  '/rooms/__proto__',
  '/rooms/%0d%0aX-Injected:%201',
  '/rooms/7/sse?channels=chat.a',
  '/rooms//sse',
  'http://elsewhere.example/realtime',
  'http://[::1/realtime',
  '/realtime#x',
  '/realtime?token=secret&access_token=secret',
  '/realtime/poll',
  '/realtime/send',
  '/realtime/ticket',
];

/** Headers beside those of a good request, or in place of them. */
const STRANGE_HEADERS: readonly string[] = [
  'Host: ',
  'Host: a, b',
  'Host: evil.example',
  'Origin: null',
  'Origin: http://evil.example',
  'Origin: http://127.0.0.1',
  'Origin: \xff\xfe',
  'Origin: http://[',
  'Content-Length: 5',
  'Content-Length: -1',
  'Content-Length: 5, 6',
  'Content-Length: 99999999999999999999',
  'Content-Length: 0x5',
  'Transfer-Encoding: chunked',
  'Transfer-Encoding: identity, chunked',
  'Transfer-Encoding: xchunked',
  'Transfer-Encoding : chunked',
  ' Transfer-Encoding: chunked',
  'Expect: 100-continue',
  'Expect: everything',
  'Connection: close',
  'Connection: keep-alive, Upgrade, Host',
  'Connection: Transfer-Encoding',
  'Upgrade: h2c',
  'Upgrade: websocket, h2c',
  'Upgrade: ',
  'HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA',
  'Sec-WebSocket-Key: ',
  'Sec-WebSocket-Key: short',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==',
  'Sec-WebSocket-Version: 8',
  'Sec-WebSocket-Version: 13, 8',
  'Sec-WebSocket-Version: 99999999999999',
  'Sec-WebSocket-Protocol: bearer',
  'Sec-WebSocket-Protocol: bearer, ',
  'Sec-WebSocket-Protocol: ,,,',
  'Sec-WebSocket-Protocol: bearer, bearer, bearer',
  'Sec-WebSocket-Protocol: a\x01b',
  `Sec-WebSocket-Protocol: bearer, ${'t'.repeat(4_000)}`,
  'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits; server_max_window_bits=99',
  'Sec-WebSocket-Extensions: ;;;=',
  `Sec-WebSocket-Extensions: ${'permessage-deflate, '.repeat(100)}x`,
  'Authorization: Bearer',
  'Authorization: Bearer \xff',
  'Authorization: Basic Og==',
  `Authorization: Bearer ${'.'.repeat(6_000)}`,
  'Cookie: a=b; __proto__=c; =; a',
  `Cookie: ${'a=b; '.repeat(1_000)}`,
  'Last-Event-ID: 1~0:aaaaaa-1-k3',
  'Last-Event-ID: 1.passpasspass~0:aaaaaa-1-k3!1:bbbbbb-2-k4',
  'Last-Event-ID: 1~zzzzz:aaaaaa-9007199254740991-zzzzzzz',
  'Last-Event-ID: \xe2\x80\xa8',
  `Last-Event-ID: 1~${'0:aaaaaa-1-k3!'.repeat(400)}`,
  'Last-Event-ID: __proto__',
  'Access-Control-Request-Method: GET',
  'Access-Control-Request-Headers: x, \xff, y',
  'X-Forwarded-For: 1.2.3.4, ::1, unknown, [',
  'X-Forwarded-Host: evil.example',
  'Forwarded: for="[::1]:80";host=evil.example;proto=https',
  'X-Test: a\rX-Injected: 1',
  'X-Test: a\nX-Injected: 1',
  'X-Test: a\r\n X-Injected: 1',
  'X-Test: \x00',
  ': no name',
  'no colon',
  '__proto__: x',
  'constructor: x',
  `X-Long: ${'x'.repeat(20_000)}`,
  'Accept: ',
  'Accept: text/event-stream',
];

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'TRACE', 'CONNECT', 'PATCH', 'BREW', 'get', ''];
const VERSIONS = ['HTTP/1.0', 'HTTP/0.9', 'HTTP/2.0', 'HTTP/1.1 ', 'http/1.1', 'HTTP/11', ''];
const BEHIND = [
  '',
  'hello',
  '0\r\n\r\n',
  '5\r\nhello\r\n0\r\n\r\n',
  'GET /realtime HTTP/1.1\r\nHost: x\r\nX-Smuggled: 1\r\n\r\n',
];

/** Makes handshakes of peers, as the bytes of a connection: good ones and mutations of them. */
export class HandshakeSource {
  constructor(
    private readonly random: Random,
    private readonly port: number,
  ) {}

  next(): Buffer {
    const { random } = this;
    const head = random.chance(0.15) ? this.#request() : this.#strange();
    const bytes = Buffer.from(head, 'latin1');
    return random.chance(0.3) ? this.#mangled(bytes) : bytes;
  }

  #request(): string {
    const path = this.random.pick(PATHS);
    return [`GET ${path} HTTP/1.1`, ...this.#headers(path), '', ''].join('\r\n');
  }

  #headers(path: string): string[] {
    const host = `Host: 127.0.0.1:${this.port}`;
    if (path.includes('/sse')) return [host, 'Accept: text/event-stream', 'Cache-Control: no-cache'];
    return [
      host,
      'Connection: Upgrade',
      'Upgrade: websocket',
      'Sec-WebSocket-Version: 13',
      'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
    ];
  }

  #strange(): string {
    const { random } = this;
    const path = random.chance(0.4) ? random.pick(STRANGE_PATHS) : random.pick(PATHS);
    const method = random.chance(0.2) ? random.pick(METHODS) : 'GET';
    const version = random.chance(0.1) ? random.pick(VERSIONS) : 'HTTP/1.1';
    const headers = this.#headers(path);
    for (let times = random.int(3); times > 0; times--) {
      const at = random.int(headers.length + 1);
      const strange = random.pick(STRANGE_HEADERS);
      random.pick([
        () => headers.splice(at, 0, strange),
        () => headers.splice(at, 1, strange),
        () => headers.splice(at, 1),
        () => headers.splice(at, 0, headers[random.int(headers.length)] ?? strange),
      ])();
    }
    const end = random.chance(0.05) ? '\n' : '\r\n';
    return [`${method} ${path} ${version}`, ...headers, '', ''].join(end) + random.pick(BEHIND);
  }

  /** Changes bytes, or cuts the request off. */
  #mangled(bytes: Buffer): Buffer {
    const { random } = this;
    const at = random.int(bytes.length + 1);
    const to = Math.min(bytes.length, at + random.int(6));
    if (random.chance(0.2)) return bytes.subarray(0, at);
    const middle = random.chance(0.5) ? Buffer.from([random.int(256)]) : Buffer.from(random.text('\r\n :\0%,;="', 4));
    return Buffer.concat([bytes.subarray(0, at), middle, bytes.subarray(to)]);
  }
}
