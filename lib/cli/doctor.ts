import { ERRORS } from '../protocol/errors.js';
import { Attempt } from './attempt.js';
import { below, credentialsOf, LateError, pause, urlOf, within, type Command } from './command.js';

/** What a check found. */
interface Finding {
  readonly check: string;
  readonly state: 'ok' | 'warning' | 'failure' | 'unknown';
  readonly message: string;
  /** What to do about it. */
  readonly fix?: string;
}

/** What the checks are about. */
interface Patient {
  readonly url: URL;
  readonly headers: Record<string, string>;
  /** A channel that may be read. */
  readonly channel: string | undefined;
  /** Where the pages are. */
  readonly origin: string;
  readonly idleMs: number;
  /** Aborts when the user has had enough. */
  readonly signal: AbortSignal;
}

/** How long a first answer, and the first bytes of a stream, may take, ms. */
const WITHIN_MS = 5_000;
/** A clock that differs by more makes tokens end too early or too late, ms. */
const CLOCK_MS = 30_000;
/** The hub heard nothing, which may be a proxy's doing as well. */
const HEARTBEAT_TIMEOUT = ERRORS.heartbeat_timeout.close;
const FOREIGN = 'https://nestjs-realtime-doctor.invalid';
const LOCAL = /^(localhost|127\.|\[::1\]|.*\.localhost$)/;

/** `doctor`: the audit from outside, through whatever proxies there are. */
export const doctor: Command = {
  name: 'doctor',
  parameters: [],
  what: 'Checks from outside what a hub and the proxies before it do.\nUpgrades pass, event streams come unbuffered, polls are held, idle connections stay. Exit code 1 where one does not, or nothing could be checked.',
  options: {
    channel: { type: 'string', value: 'NAME', what: 'a quiet channel that may be read, for the checks of streams' },
    origin: { type: 'string', value: 'URL', what: 'where the pages are; the host of the hub by default' },
    idle: { type: 'string', value: 'SECONDS', what: 'how long connections are kept idle', initial: '40' },
    json: { type: 'boolean', what: 'as JSON' },
  },
  async run(args, { out, progress, signal }) {
    const idleMs = args.number('idle', 0) * 1_000;
    const url = urlOf(args);
    const patient: Patient = {
      url,
      headers: credentialsOf(args),
      channel: args.text('channel'),
      origin: args.text('origin') ?? url.origin,
      idleMs,
      signal,
    };
    const findings: Finding[] = [];
    const first = await endpoint(patient);
    findings.push(...first);
    if (first.every(({ state }) => state !== 'failure')) {
      progress(`${idleMs / 1_000} s of silence …`);
      findings.push(
        ...(await Promise.all([webSocket, origins, eventStream, polling].map((check) => check(patient)))).flat(),
      );
    }
    if (signal.aborted) return 1;
    if (args.flag('json')) out(JSON.stringify(findings));
    else for (const finding of findings) out(describe(finding));
    const passes = findings.some(({ check, state }) => WIRES.includes(check) && state === 'ok');
    return passes && findings.every(({ state }) => state !== 'failure') ? 0 : 1;
  },
};

/** The checks by which something passes. */
const WIRES = ['websocket', 'event stream', 'long polling'];
const MARKS = { ok: 'ok     ', warning: 'warning', failure: 'FAILED ', unknown: '?      ' } as const;

function describe({ check, state, message, fix }: Finding): string {
  return `${MARKS[state]} ${check}: ${message}${fix === undefined ? '' : `\n        ${fix}`}`;
}

/** The endpoint itself: a hub asks who comes without an upgrade for one. */
async function endpoint({ url, headers, signal }: Patient): Promise<Finding[]> {
  const check = 'endpoint';
  let response: Response;
  try {
    const ended = AbortSignal.any([signal, AbortSignal.timeout(WITHIN_MS)]);
    response = await fetch(url, { headers, redirect: 'manual', signal: ended });
  } catch (error) {
    return [{ check, state: 'failure', message: `${url.href} cannot be reached: ${reason(error)}` }];
  }
  const findings: Finding[] = [];
  if (response.status === 426) {
    findings.push({ check, state: 'ok', message: `${url.href} is a hub` });
  } else {
    const away = response.status >= 502 && response.status <= 504;
    const fix = away
      ? 'A proxy does not reach the hub: see whether it runs, and where the proxy looks for it.'
      : 'Name the path of the module (`path`, /realtime by default), and have the proxy pass it as it is.';
    findings.push({ check, state: 'failure', message: `${url.href} answers ${response.status}, no hub's 426`, fix });
  }
  if (url.protocol === 'http:' && !LOCAL.test(url.hostname)) {
    const message = 'tokens and data go unencrypted, and many networks break WebSocket without TLS';
    findings.push({ check: 'encryption', state: 'warning', message, fix: 'Have the proxy serve https.' });
  }
  const date = Date.parse(response.headers.get('date') ?? '');
  const off = Math.abs(date - Date.now());
  if (off > CLOCK_MS) {
    const message = `the server's clock and this one differ by ${Math.round(off / 1_000)} s`;
    findings.push({ check: 'clock', state: 'warning', message, fix: 'Tokens end by the clock: run NTP on both.' });
  }
  return findings;
}

/** Whether upgrades pass, and whether an idle WebSocket stays. */
async function webSocket({ url, headers, idleMs, signal }: Patient): Promise<Finding[]> {
  const check = 'websocket';
  const attempt = new Attempt({ url, headers, signal, withinMs: WITHIN_MS });
  await attempt.begin();
  const { status, over: early } = attempt;
  await attempt.stay(idleMs);
  const { over, openMs, code, disconnect, greeted, error } = attempt;
  attempt.end();
  if (!over) return [{ check, state: 'ok', message: `opened in ${openMs} ms, and open after ${idleMs / 1_000} s` }];
  if (disconnect?.code === 4401)
    return [{ check, state: 'unknown', message: 'the hub asks for a token: give --token' }];
  if (disconnect !== undefined && disconnect.code !== HEARTBEAT_TIMEOUT) {
    const message = `the hub ${greeted ? 'ends it' : 'refuses'} with ${disconnect.code} ${disconnect.reason}`;
    return [{ check, state: 'unknown', message }];
  }
  if (status === 401 || status === 403 || status === 429) {
    return [{ check, state: 'unknown', message: `the hub refuses with ${status}: give --token, or wait` }];
  }
  if (early && !greeted) {
    const closed = error === undefined ? `it is closed with ${code} before any frame` : reason(error);
    const how = status === undefined ? closed : `it is answered ${status}`;
    const fix =
      'nginx: proxy_http_version 1.1, and the headers Upgrade and Connection; load balancers of clouds: an HTTP listener.';
    return [{ check, state: 'failure', message: `an upgrade does not pass: ${how}`, fix }];
  }
  const fix = 'Raise the idle or read timeout of the proxy above `heartbeat.intervalMs`, or lower that.';
  return [
    { check, state: 'failure', message: `an idle WebSocket is closed with ${code} within ${idleMs / 1_000} s`, fix },
  ];
}

/** Whether pages of any host may connect, and those of the application. */
async function origins(patient: Patient): Promise<Finding[]> {
  const check = 'origin';
  const [foreign, own] = await Promise.all([FOREIGN, patient.origin].map((origin) => comeFrom(patient, origin)));
  if (foreign === 'let in') {
    const fix = 'Name the hosts of your pages in `origins`; with cookies as credentials this is needed.';
    return [{ check, state: 'warning', message: 'pages of any host may connect', fix }];
  }
  if (foreign !== 'refused') return [{ check, state: 'unknown', message: foreign! }];
  if (own !== 'refused') return [{ check, state: 'ok', message: 'pages of other hosts are refused' }];
  const message = `pages of ${patient.origin} are refused like those of other hosts`;
  const fix = 'Where yours are there, have the proxy keep Host, or name them in `origins`; else say where by --origin.';
  return [{ check, state: 'warning', message, fix }];
}

/** What becomes of a page of an origin; in words where it is not for its origin. */
async function comeFrom({ url, headers, signal }: Patient, origin: string): Promise<string> {
  const attempt = new Attempt({ url, headers: { ...headers, Origin: origin }, signal, withinMs: WITHIN_MS });
  await attempt.begin();
  const { status, over, disconnect, greeted, code, error } = attempt;
  attempt.end();
  if (status === 403 || disconnect?.reason === 'origin_refused') return 'refused';
  if (!greeted && disconnect !== undefined) {
    return `the hub refuses for another reason: ${disconnect.code} ${disconnect.reason}`;
  }
  if (greeted || !over) return 'let in';
  return `an upgrade is not answered by the hub: ${status ?? (error === undefined ? `closed with ${code}` : reason(error))}`;
}

/** Whether a stream arrives as it is written, and whether an idle one stays. */
async function eventStream({ url, headers, channel, idleMs, signal }: Patient): Promise<Finding[]> {
  const check = 'event stream';
  if (channel === undefined) return [{ check, state: 'unknown', message: 'give --channel to have streams checked' }];
  const target = below(url, 'sse');
  target.searchParams.set('channels', channel);
  const abort = new AbortController();
  const ended = AbortSignal.any([signal, abort.signal]);
  const from = performance.now();
  let response: Response;
  try {
    response = await within(
      WITHIN_MS,
      fetch(target, { headers: { ...headers, Accept: 'text/event-stream' }, signal: ended }),
    );
  } catch (error) {
    abort.abort();
    if (!(error instanceof LateError)) {
      return [{ check, state: 'failure', message: `a stream cannot be opened: ${reason(error)}` }];
    }
    const fix = 'nginx: proxy_buffering off (the header X-Accel-Buffering that the hub sends was not heeded).';
    return [
      { check, state: 'failure', message: `nothing came within ${WITHIN_MS} ms: a proxy keeps the stream back`, fix },
    ];
  }
  if (!response.ok) {
    const { error } = (await response.json().catch(() => ({}))) as { error?: { code?: string } };
    return [
      { check, state: 'unknown', message: `the hub refuses with ${response.status} ${error?.code ?? ''}`.trim() },
    ];
  }
  const reader = response.body!.getReader();
  try {
    const first = await within(WITHIN_MS, reader.read()).then(
      ({ done }) => (done ? 'ends' : undefined),
      (error: unknown) => (error instanceof LateError ? error : `breaks: ${reason(error)}`),
    );
    if (first instanceof LateError) {
      const fix = 'Turn off buffering and compression of text/event-stream in the proxy.';
      const message = `no event came within ${WITHIN_MS} ms: a proxy keeps the stream back`;
      return [{ check, state: 'failure', message, fix }];
    }
    if (first !== undefined) {
      return [{ check, state: 'failure', message: `before its first event a stream ${first}` }];
    }
    const ms = Math.round(performance.now() - from);
    const findings: Finding[] = [];
    const encoding = response.headers.get('content-encoding');
    if (encoding !== null) {
      const fix = 'Leave text/event-stream out of what the proxy compresses.';
      findings.push({
        check,
        state: 'warning',
        message: `a proxy compresses it (${encoding}), and may hold events back`,
        fix,
      });
    }
    const rest = new Rest(reader);
    await Promise.race([rest.end, pause(idleMs, ended)]);
    if (rest.over) {
      const fix = 'Raise the read timeout of the proxy above `heartbeat.intervalMs`, or lower that.';
      findings.push({ check, state: 'failure', message: `an idle stream ends within ${idleMs / 1_000} s`, fix });
    } else if (rest.events) {
      const message = `first event after ${ms} ms; whether an idle stream stays is not known, as events came`;
      findings.push({ check, state: 'unknown', message, fix: 'Name a quiet channel by --channel.' });
    } else {
      findings.push({ check, state: 'ok', message: `first event after ${ms} ms, and open after ${idleMs / 1_000} s` });
    }
    return findings;
  } finally {
    abort.abort();
  }
}

/** What follows the first event of a stream. */
class Rest {
  over = false;
  /** Whether more came than signs of life. */
  events = false;
  readonly end: Promise<void>;

  constructor(reader: ReadableStreamDefaultReader<Uint8Array>) {
    this.end = this.#read(reader)
      .catch(() => undefined) // broken is ended
      .finally(() => (this.over = true));
  }

  async #read(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
      this.events ||= /^(data|event):/m.test(decoder.decode(value, { stream: true }));
    }
  }
}

/** Whether a poll is held until the hub answers it. */
async function polling({ url, headers, idleMs, signal }: Patient): Promise<Finding[]> {
  const check = 'long polling';
  const fix = 'Raise the read timeout of the proxy above 25 s, the time for which a poll is held.';
  const post = (body: object, enough: AbortSignal): Promise<Response> => {
    const own = { ...headers, 'Content-Type': 'application/json' };
    const ended = AbortSignal.any([signal, enough]);
    return fetch(below(url, 'poll'), { method: 'POST', headers: own, body: JSON.stringify(body), signal: ended });
  };
  try {
    const made = await post({}, AbortSignal.timeout(WITHIN_MS));
    if (made.status !== 201) return [{ check, state: 'unknown', message: `the hub refuses with ${made.status}` }];
    const { pass, inbox, positions } = (await made.json()) as Record<string, unknown>;
    const from = performance.now();
    const enough = AbortSignal.timeout(idleMs);
    const status = await post({ pass, inbox, positions }, enough).then(
      (held) => held.status,
      (error: unknown) => {
        if (enough.aborted) return undefined;
        throw error;
      },
    );
    const seconds = ((performance.now() - from) / 1_000).toFixed(1);
    if (status === undefined || status === 200)
      return [{ check, state: 'ok', message: `a poll is held for ${seconds} s` }];
    return [{ check, state: 'failure', message: `a poll is answered ${status} after ${seconds} s`, fix }];
  } catch (error) {
    return [{ check, state: 'failure', message: `a poll is not answered: ${reason(error)}`, fix }];
  }
}

/** Why a request failed is in the cause of its error. */
function reason(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error && cause.message !== '' ? cause.message : message;
}
