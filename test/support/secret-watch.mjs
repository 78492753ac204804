// Watches that no secret of a test file gets out: into a log line, into the message of an error, or to a peer.
import diagnosticsChannel from 'node:diagnostics_channel';

/** Where the watch of a test file is in its globals; see secrets.ts. */
export const SECRET_WATCH = Symbol.for('nestjs-realtime:secret-watch');

const MIN_LENGTH = 8;
/** A line of a key that is long enough to be told from others. */
const MIN_LINE_LENGTH = 40;
/** How much of what was sent is looked at again with what is sent next. */
const OVERLAP_BYTES = 1024;
const EXCERPT_LENGTH = 60;

export class SecretWatch {
  /** Each text that must not get out, and whether peers may be told it. */
  #texts = new Map();
  #logs = [];
  #leaks = [];
  #undo = [];
  #over = false;

  /** Watches a secret. `told`: its peer is told it, as a ticket is that it asked for. */
  secret(text, { told = false } = {}) {
    if (text.length < MIN_LENGTH) throw new Error(`A secret has at least ${MIN_LENGTH} characters, to be recognised`);
    for (const form of formsOf(text)) this.#texts.set(form, { bytes: Buffer.from(form), told });
  }

  /** A log line, from wherever. */
  logged(text) {
    this.#logs.push(String(text));
  }

  /** What got out since it was last asked, each with where and in which words; without the secrets. */
  takeLeaks() {
    for (const line of this.#logs.splice(0)) this.#look('a log line', line);
    return this.#leaks.splice(0);
  }

  /** Begins to watch what the code of an environment logs, throws and serves. */
  start(global, console) {
    this.#watchStream(process.stdout);
    this.#watchStream(process.stderr);
    this.#watchErrors(global);
    this.#watchServers();
    this.console = console;
  }

  /** Ends watching; returns the leaks. */
  stop() {
    for (const { message } of this.console?.getBuffer?.() ?? []) this.logged(message);
    for (const undo of this.#undo.splice(0)) undo();
    this.#over = true;
    return this.takeLeaks();
  }

  #watchStream(stream) {
    const { write } = stream;
    const watch = this;
    stream.write = function (chunk, ...rest) {
      watch.logged(chunk);
      return write.call(this, chunk, ...rest);
    };
    this.#undo.push(() => (stream.write = write));
  }

  /** Errors that the environment's code makes, its own classes of errors included. */
  #watchErrors(global) {
    const watch = this;
    const handler = {
      construct(target, args, newTarget) {
        const error = Reflect.construct(target, args, newTarget);
        if (watch.#over) return error;
        if (target.captureStackTrace) target.captureStackTrace(error, handler.construct);
        watch.#look('the message of an error', error.message);
        return error;
      },
    };
    for (const name of ['Error', 'TypeError', 'RangeError', 'SyntaxError']) {
      global[name] = new Proxy(global[name], handler);
    }
  }

  /** What servers of this process send. */
  #watchServers() {
    const onSocket = ({ socket }) => this.#watchSocket(socket);
    diagnosticsChannel.subscribe('net.server.socket', onSocket);
    this.#undo.push(() => diagnosticsChannel.unsubscribe('net.server.socket', onSocket));
  }

  #watchSocket(socket) {
    const watch = this;
    const { _write, _writev } = socket;
    let before = Buffer.alloc(0);
    const sent = (chunk, encoding) => {
      if (watch.#texts.size === 0) return;
      const bytes = Buffer.concat([before, typeof chunk === 'string' ? Buffer.from(chunk, encoding) : chunk]);
      watch.#lookAtBytes('what a server sent', bytes);
      before = bytes.subarray(-OVERLAP_BYTES);
    };
    socket._write = function (chunk, encoding, done) {
      sent(chunk, encoding);
      return _write.call(this, chunk, encoding, done);
    };
    socket._writev = function (chunks, done) {
      for (const { chunk, encoding } of chunks) sent(chunk, encoding);
      return _writev.call(this, chunks, done);
    };
  }

  #look(where, text) {
    for (const form of this.#texts.keys()) if (text.includes(form)) this.#note(where, text, form);
  }

  #lookAtBytes(where, sent) {
    for (const [form, { bytes, told }] of this.#texts) {
      if (!told && sent.includes(bytes)) this.#note(where, sent.toString(), form);
    }
  }

  #note(where, text, form) {
    const at = text.indexOf(form);
    const start = Math.max(0, at - EXCERPT_LENGTH);
    let excerpt = text.slice(start, at + form.length + EXCERPT_LENGTH);
    for (const other of this.#texts.keys()) excerpt = excerpt.replaceAll(other, '[secret]');
    const leak = `${where}: …${excerpt}…`;
    if (!this.#leaks.includes(leak)) this.#leaks.push(leak);
  }
}

/** The texts by which a secret is recognised: as it is, as it stands in a URL, in JSON and in base64, and its telling parts. */
function formsOf(text) {
  const lines = text.split('\n').filter((line) => line.length >= MIN_LINE_LENGTH && !line.startsWith('-----'));
  const signature = /^[\w-]+\.[\w-]+\.([\w-]{16,})$/.exec(text)?.[1];
  return new Set([
    text,
    encodeURIComponent(text),
    JSON.stringify(text).slice(1, -1),
    Buffer.from(text).toString('base64'),
    Buffer.from(text).toString('base64url'),
    ...(lines.length > 1 ? lines : []),
    ...(signature === undefined ? [] : [signature]),
  ]);
}
