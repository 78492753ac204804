// The load generator where there is no C++ compiler: the same commands and answers as load.cpp.
import { connect } from 'node:net';
import { createInterface } from 'node:readline';

const COUNTED_BYTES = 48; // shorter frames are the protocol's own
const STAMP = /^@(\d{16})@/;
const OPENING = 500; // handshakes at once: what fits in the backlog of a listener

const peers = [];
let settings;
let started = 0;
let opened = 0;
let messages = 0;
let bytes = 0;
let target = 0;
let requests = [];
let toSend = 0;
let upgrades = true;
let delays = [];

const say = (...fields) => process.stdout.write(`${fields.join('\t')}\n`);

function fail(why) {
  say('failed', why);
  process.exit(1);
}

function masked(text, seed) {
  const payload = Buffer.from(text);
  const size = payload.length < 126 ? [0x80 | payload.length] : [0x80 | 126, payload.length >> 8, payload.length & 255];
  const mask = [seed * 31, seed * 57, seed * 91, seed * 17].map((byte) => byte & 255);
  for (let i = 0; i < payload.length; i++) payload[i] ^= mask[i & 3];
  return Buffer.concat([Buffer.from([0x81, ...size, ...mask]), payload]);
}

function startOne() {
  started++;
  const socket = connect({ host: '127.0.0.1', port: settings.port, noDelay: true });
  const peer = {
    socket,
    state: 'upgrading',
    text: Buffer.alloc(0),
    greeted: false,
    skip: 0,
    header: [],
    turn: 0,
    size: '',
    event: 0,
    line: 0,
  };
  peers.push(peer);
  socket.write(settings.request);
  socket.on('data', (data) => {
    if (peer.state === 'ready' || (peer.state === 'greeting' && !upgrades)) take(peer, data);
    else handshake(peer, data);
    checkTarget();
  });
  socket.on('error', ({ message }) => fail(message));
  socket.on('close', () => fail('the server cut a connection'));
}

function sendRequests(peer, count) {
  const chunks = [];
  for (; count > 0 && toSend > 0; count--, toSend--) {
    chunks.push(requests[peer.turn]);
    peer.turn = (peer.turn + 1) % requests.length;
  }
  if (chunks.length > 0) peer.socket.write(chunks.length === 1 ? chunks[0] : Buffer.concat(chunks));
}

function checkTarget() {
  if (target === 0 || messages < target) return;
  say('reached', messages, bytes);
  messages = bytes = target = 0;
}

/** Reads the stamp of a payload, if it has one. */
function readStamp(payload) {
  const at = payload.indexOf(0x40);
  const match = at < 0 ? null : STAMP.exec(payload.toString('latin1', at, at + 18));
  if (match) delays.push(Number(process.hrtime.bigint() / 1000n) - Number(match[1]));
}

function count(peer, data) {
  let got = 0;
  let at = 0;
  bytes += data.length;
  while (at < data.length) {
    if (peer.skip > 0) {
      const part = Math.min(peer.skip, data.length - at);
      peer.skip -= part;
      at += part;
      continue;
    }
    const { header } = peer;
    header.push(data[at++]);
    if (header.length < 2) continue;
    let size = header[1] & 127;
    const more = size === 127 ? 8 : size === 126 ? 2 : 0;
    if (header.length < 2 + more) continue;
    if (more > 0) size = header.slice(2).reduce((sum, byte) => sum * 256 + byte, 0);
    const opcode = header[0] & 15;
    if (opcode === 8) fail('the server closes a connection');
    if (opcode <= 2 && size >= COUNTED_BYTES) {
      got++;
      readStamp(data.subarray(at, at + size));
    }
    peer.skip = size;
    header.length = 0;
  }
  messages += got;
  if (got > 0 && toSend > 0) sendRequests(peer, got);
}

function becomeReady(peer) {
  peer.state = 'ready';
  opened++;
  if (started < settings.wanted) startOne();
  if (opened === settings.wanted) say('opened', opened);
}

/** Part of an event stream, without the chunks' own bytes. */
function countEvents(peer, data) {
  let begin = 0;
  for (let at = 0; at < data.length;) {
    const newline = data.indexOf(0x0a, at);
    peer.line += (newline < 0 ? data.length : newline) - at;
    if (newline < 0) return;
    at = newline + 1;
    if (peer.line > 0) {
      peer.event += peer.line;
    } else {
      if (peer.event >= COUNTED_BYTES && peer.state === 'greeting') {
        becomeReady(peer);
      } else if (peer.event >= COUNTED_BYTES) {
        messages++;
        readStamp(data.subarray(begin, at));
      }
      peer.event = 0;
      begin = at;
    }
    peer.line = 0;
  }
}

/** Server-sent events in a chunked response. */
function countStream(peer, data) {
  bytes += data.length;
  for (let at = 0; at < data.length;) {
    if (peer.skip > 0) {
      const part = data.subarray(at, at + peer.skip);
      countEvents(peer, part);
      peer.skip -= part.length;
      at += part.length;
      continue;
    }
    // The end of the last chunk, and the size of the next: `\r\n<hex>\r\n`.
    const char = String.fromCharCode(data[at++]);
    if (char === '\n' && peer.size !== '') {
      peer.skip = parseInt(peer.size, 16);
      if (peer.skip === 0) fail('the server ends a stream');
      peer.size = '';
    } else if (char !== '\r' && char !== '\n') {
      peer.size += char;
    }
  }
}

function take(peer, data) {
  if (upgrades) count(peer, data);
  else countStream(peer, data);
}

/** Reads the answer to the upgrade, then whole frames until the one that makes the peer ready. */
function handshake(peer, data) {
  peer.text = Buffer.concat([peer.text, data]);
  const { trigger, greeting, ready } = settings;
  if (peer.state === 'upgrading') {
    const end = peer.text.indexOf('\r\n\r\n');
    if (end < 0) return;
    const head = peer.text.toString('latin1', 0, end);
    if (!head.startsWith(upgrades ? 'HTTP/1.1 101' : 'HTTP/1.1 200')) fail(`refused: ${head.split('\r\n')[0]}`);
    peer.text = peer.text.subarray(end + 4);
    peer.state = 'greeting';
    if (ready === '') {
      becomeReady(peer);
    } else if (upgrades && trigger === '') {
      peer.greeted = true;
      peer.socket.write(masked(greeting, 1));
    }
  }
  while (upgrades && peer.state === 'greeting' && peer.text.length >= 2) {
    let size = peer.text[1] & 127;
    let offset = 2;
    if (size === 126) {
      if (peer.text.length < 4) return;
      size = peer.text.readUInt16BE(2);
      offset = 4;
    }
    if (peer.text.length < offset + size) return;
    const frame = peer.text.toString('utf8', offset, offset + size);
    peer.text = peer.text.subarray(offset + size);
    if (!peer.greeted && frame.startsWith(trigger)) {
      peer.greeted = true;
      peer.socket.write(masked(greeting, 1));
    } else if (peer.greeted && frame.startsWith(ready)) {
      becomeReady(peer);
    } else if (frame.includes('"error"')) {
      fail(`refused: ${frame}`);
    }
  }
  if (upgrades && peer.state !== 'ready') return;
  const rest = peer.text;
  peer.text = undefined;
  if (rest.length > 0) take(peer, rest);
}

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const [command, ...fields] = line.split('\t');
    switch (command) {
      case 'open': {
        const [port, wanted, request, trigger, greeting, ready] = fields;
        settings = { port: Number(port), wanted: Number(wanted), trigger, greeting, ready };
        settings.request = request.replaceAll('\\r\\n', '\r\n');
        upgrades = settings.request.includes('\r\nUpgrade: ');
        for (let i = 0; i < OPENING && started < settings.wanted; i++) startOne();
        break;
      }
      case 'count':
        target = Number(fields[0]);
        checkTarget();
        break;
      case 'request': {
        const depth = Number(fields[0]);
        target = toSend = Number(fields[1]);
        requests = Array.from({ length: depth }, (_, i) => masked(fields[2].replaceAll('#', String(i + 1)), i + 7));
        for (const peer of peers) {
          peer.turn = 0;
          sendRequests(peer, depth);
        }
        break;
      }
      case 'delays':
        say('delays', ...delays.sort((a, b) => a - b));
        delays = [];
        break;
      case 'take':
        say('taken', messages);
        messages = bytes = 0;
        break;
      case 'usage': {
        const { user, system } = process.cpuUsage();
        say('usage', user + system);
        break;
      }
      default:
        fail(`unknown command: ${command}`);
    }
  })
  .on('close', () => process.exit(0));
