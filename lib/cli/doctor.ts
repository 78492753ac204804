import { WebSocket } from 'ws';
import { below, credentialsOf, urlOf, within, type Command } from './command.js';

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
  readonly idleMs: number;
}

/** How long a first answer, and the first bytes of a stream, may take, ms. */
const WITHIN_MS = 5_000;
/** A clock that differs by more makes tokens end too early or too late, ms. */
const CLOCK_MS = 30_000;
const FOREIGN = 'https://nestjs-realtime-doctor.invalid';
const LOCAL = /^(localhost|127\.|\[::1\]|.*\.localhost$)/;

/** `doctor`: the audit from outside, through whatever proxies there are. */
export const doctor: Command = {
  name: 'doctor',
  parameters: [],
  what: 'Checks from outside what a hub and the proxies before it do.\nUpgrades pass, event streams come unbuffered, polls are held, idle connections stay. Exit code 1 where one does not.',
  options: {
    channel: { type: 'string', value: 'NAME', what: 'a channel that may be read, for the checks of streams' },
    idle: { type: 'string', value: 'SECONDS', what: 'how long connections are kept idle', initial: '40' },
    json: { type: 'boolean', what: 'as JSON' },
  },
  async run(args, { out, progress, signal }) {
    const idleMs = args.number('idle', 0) * 1_000;
    const patient: Patient = { url: urlOf(args), headers: credentialsOf(args), channel: args.text('channel'), idleMs };
    const findings: Finding[] = [];
    const first = await endpoint(patient);
    findings.push(...first);
    if (first.every(({ state }) => state !== 'failure')) {
      progress(`${idleMs / 1_000} s of silence …`);
      findings.push(
        ...(await Promise.all([webSocket, foreignOrigin, eventStream, polling].map((check) => check(patient)))).flat(),
      );
    }
    if (args.flag('json')) out(JSON.stringify(findings));
    else for (const finding of findings) out(describe(finding));
    return signal.aborted || findings.some(({ state }) => state === 'failure') ? 1 : 0;
  },
};

const MARKS = { ok: 'ok     ', warning: 'warning', failure: 'FAILED ', unknown: '?      ' } as const;

function describe({ check, state, message, fix }: Finding): string {
  return `${MARKS[state]} ${check}: ${message}${fix === undefined ? '' : `\n        ${fix}`}`;
}

/** The endpoint itself: a hub asks who comes without an upgrade for one. */
async function endpoint({ url, headers }: Patient): Promise<Finding[]> {
  const check = 'endpoint';
  let response: Response;
  try {
    response = await fetch(url, { headers, redirect: 'manual', signal: AbortSignal.timeout(WITHIN_MS) });
  } catch (error) {
    return [{ check, state: 'failure', message: `${url.href} cannot be reached: ${reason(error)}` }];
  }
  const findings: Finding[] = [];
  if (response.status === 426) {
    findings.push({ check, state: 'ok', message: `${url.href} is a hub` });
  } else {
    const fix = 'Name the path of the module (`path`, /realtime by default), and have the proxy pass it as it is.';
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
async function webSocket({ url, headers, idleMs }: Patient): Promise<Finding[]> {
  const check = 'websocket';
  const from = performance.now();
  const { socket, ...opened } = await openSocket(url, headers);
  if (opened.status === 401 || opened.status === 403 || opened.status === 429) {
    return [{ check, state: 'unknown', message: `the hub refuses with ${opened.status}: give --token, or wait` }];
  }
  if (opened.status !== undefined || opened.error !== undefined) {
    const how = opened.status === undefined ? reason(opened.error) : `it is answered ${opened.status}`;
    const fix =
      'nginx: proxy_http_version 1.1, and the headers Upgrade and Connection; load balancers of clouds: an HTTP listener.';
    return [{ check, state: 'failure', message: `an upgrade does not pass: ${how}`, fix }];
  }
  const ms = Math.round(performance.now() - from);
  const closed = await new Promise<number | undefined>((resolve) => {
    const timer = setTimeout(() => resolve(undefined), idleMs);
    socket.once('close', (code) => {
      clearTimeout(timer);
      resolve(code);
    });
  });
  socket.terminate();
  if (closed === undefined)
    return [{ check, state: 'ok', message: `opened in ${ms} ms, and open after ${idleMs / 1_000} s` }];
  if (closed === 4401) return [{ check, state: 'unknown', message: 'the hub asks for a token: give --token' }];
  const fix = 'Raise the idle or read timeout of the proxy above `heartbeat.intervalMs`, or lower that.';
  return [
    { check, state: 'failure', message: `an idle WebSocket is closed with ${closed} within ${idleMs / 1_000} s`, fix },
  ];
}

/** Whether pages of any host may connect. */
async function foreignOrigin({ url, headers }: Patient): Promise<Finding[]> {
  const check = 'origin';
  const { socket, status, error } = await openSocket(url, { ...headers, Origin: FOREIGN });
  socket.terminate();
  if (status === 403) return [{ check, state: 'ok', message: 'pages of other hosts are refused' }];
  if (status !== undefined || error !== undefined) {
    return [{ check, state: 'unknown', message: `an upgrade is not answered by the hub: ${status ?? reason(error)}` }];
  }
  const fix = 'Name the hosts of your pages in `origins`; with cookies as credentials this is needed.';
  return [{ check, state: 'warning', message: 'pages of any host may connect', fix }];
}

/** Tries an upgrade: it is open, or was answered with a status, or failed. */
async function openSocket(
  url: URL,
  headers: Record<string, string>,
): Promise<{ socket: WebSocket; status?: number; error?: Error }> {
  const target = new URL(url);
  target.protocol = target.protocol.replace(/^http/, 'ws');
  const socket = new WebSocket(target, { headers, handshakeTimeout: WITHIN_MS });
  return new Promise((resolve) => {
    socket.once('open', () => resolve({ socket }));
    socket.once('unexpected-response', (request, response) => {
      request.destroy();
      resolve({ socket, status: response.statusCode! });
    });
    socket.on('error', (error) => resolve({ socket, error }));
  });
}

/** Whether a stream arrives as it is written, and whether an idle one stays. */
async function eventStream({ url, headers, channel, idleMs }: Patient): Promise<Finding[]> {
  const check = 'event stream';
  if (channel === undefined) return [{ check, state: 'unknown', message: 'give --channel to have streams checked' }];
  const target = below(url, 'sse');
  target.searchParams.set('channels', channel);
  const abort = new AbortController();
  const from = performance.now();
  let response: Response;
  try {
    response = await within(
      WITHIN_MS,
      fetch(target, { headers: { ...headers, Accept: 'text/event-stream' }, signal: abort.signal }),
    );
  } catch {
    abort.abort();
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
    const first = await within(WITHIN_MS, reader.read()).catch(() => undefined);
    if (first === undefined) {
      const fix = 'Turn off buffering and compression of text/event-stream in the proxy.';
      return [
        {
          check,
          state: 'failure',
          message: `no event came within ${WITHIN_MS} ms: a proxy keeps the stream back`,
          fix,
        },
      ];
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
    const ended = await Promise.race([
      readToEnd(reader),
      new Promise<false>((resolve) => setTimeout(() => resolve(false), idleMs)),
    ]);
    if (ended) {
      const fix = 'Raise the read timeout of the proxy above `heartbeat.intervalMs`, or lower that.';
      findings.push({ check, state: 'failure', message: `an idle stream ends within ${idleMs / 1_000} s`, fix });
    } else {
      findings.push({ check, state: 'ok', message: `first event after ${ms} ms, and open after ${idleMs / 1_000} s` });
    }
    return findings;
  } finally {
    abort.abort();
  }
}

async function readToEnd(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<true> {
  try {
    while (!(await reader.read()).done);
  } catch {
    // broken is ended
  }
  return true;
}

/** Whether a poll is held until the hub answers it. */
async function polling({ url, headers, idleMs }: Patient): Promise<Finding[]> {
  const check = 'long polling';
  const fix = 'Raise the read timeout of the proxy above 25 s, the time for which a poll is held.';
  const post = (body: object, signal: AbortSignal): Promise<Response> => {
    const own = { ...headers, 'Content-Type': 'application/json' };
    return fetch(below(url, 'poll'), { method: 'POST', headers: own, body: JSON.stringify(body), signal });
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
