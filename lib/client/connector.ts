import { retryAfterClose, type ErrorBody, type CodedException } from '../protocol/errors.js';
import type { ConnectedData, DisconnectData, ResumeAnswer, ResumeData } from '../protocol/frames.js';
import type { Position } from '../protocol/position.js';
import { Choice } from './choice.js';
import { endOf, errorOf, exceptionOfEnd } from './failures.js';
import type { ResolvedOptions } from './options.js';
import { Pace } from './pace.js';
import { TokenSource } from './token.js';
import {
  byteLength,
  type ClientLink,
  type ClientTransport,
  type IncomingFrame,
  type LinkContext,
  type LinkEnd,
} from './transport.js';
import { Watchdog } from './watchdog.js';

/**
 * `closed`: before the first use, after `close()`, and after a refusal for good · `connecting`: an attempt runs ·
 * `open` · `waiting`: for the next attempt · `suspended`: away for longer than the smallest history window of the
 * subscribed channels; attempts go on.
 */
export type ClientState = 'connecting' | 'open' | 'waiting' | 'suspended' | 'closed';

/** Why the state changed, and how long the next attempt waits. */
export interface StateDetails {
  /** A WebSocket close code, or the one that stands for a refusal over HTTP. */
  readonly code?: number;
  /** The name of an error of the table, or a text for people. */
  readonly reason?: string;
  /** Until the next attempt. Milliseconds. */
  readonly delayMs?: number;
}

/** What the connector needs of its client, and where it tells what happens. */
export interface ConnectorHost {
  readonly client: string;
  /** The channels that `$resume` names, with their positions. */
  resumeChannels(): ResumeChannels;
  readonly position: (channel: string) => Position | undefined;
  /** The smallest history window of the subscribed channels; Infinity if none has history. */
  windowMs(): number;
  onState(state: ClientState, details: StateDetails): void;
  onConnected(data: ConnectedData): void;
  /** The link is open and the hub has answered `$resume`. */
  onOpen(answer: ResumeAnswer, link: ClientLink): void;
  /** Whether requests wait, for a link or an answer. */
  isBusy(): boolean;
  onFrame(frame: IncomingFrame): void;
  /** The link that was open is gone. */
  onLost(): void;
  onError(error: unknown): void;
  /** The end: by `close()`, then without an error, or by a refusal. `state` is told after it, and then the error. */
  onClosed(error?: CodedException): void;
}

type Handlers = Pick<LinkContext, 'onAlive' | 'onFrame' | 'onEnd'>;
type ResumeChannels = readonly [name: string, position: Position | null][];

const RESUME_ID = 0;
/** More than `$resume` has besides its data. */
const ENVELOPE_BYTES = 99;
/** An uptime after which failures before it no longer count. */
const STABLE_MS = 5_000;
/** Why a link that went silent is dropped. */
const SILENT = 'heartbeat_timeout';
/** How soon a link must be heard after the device came back. */
const WAKE_MS = 3_000;

/** Keeps one link to the hub: attempts, transports, token, heartbeat, and the state that follows from them. */
export class Connector {
  readonly #options: ResolvedOptions;
  readonly #host: ConnectorHost;
  #token: TokenSource;
  readonly #watchdog: Watchdog;
  readonly #choice: Choice;
  readonly #pace: Pace;
  #state: ClientState = 'closed';
  #link: ClientLink | undefined;
  /** Names the attempt or link that counts: what comes from an older one is ignored. */
  #current = 0;
  #sentAt = 0;
  #openedAt: number | undefined;
  /** The hub's word: no attempt before. */
  #notBefore = 0;
  #cancelAttempt: (() => void) | undefined;
  /** Stops what runs beside: the time limit of an attempt, or the look for a better transport. */
  #stop: (() => void) | undefined;
  #cancelSuspend: (() => void) | undefined;
  #stopWakeUps: (() => void) | undefined;
  /** Attempts that failed in a row. */
  failures = 0;
  /** How often a link was opened. */
  opened = 0;
  maxFrameBytes = 65_536;
  /** From `$resume` to its answer, over the last link. */
  latencyMs = 0;

  constructor(options: ResolvedOptions, host: ConnectorHost) {
    this.#options = options;
    this.#host = host;
    this.#token = new TokenSource(options.token);
    this.#watchdog = new Watchdog(options.clock, () => this.drop(SILENT));
    this.#pace = new Pace(options.clock, options.backoff);
    this.#choice = new Choice(
      options.transports.map(({ name }) => name),
      options.memory,
    );
  }

  get state(): ClientState {
    return this.#state;
  }

  get transport(): string | undefined {
    return this.#link && this.#used.name;
  }

  /** The transport in use, or of the next attempt. */
  get #used(): ClientTransport {
    return this.#options.transports[this.#choice.current]!;
  }

  /** Starts to connect, if the client is closed. */
  open(): void {
    if (this.#state !== 'closed') return;
    this.#choice.begin(this.#options.clock.now());
    this.#token = new TokenSource(this.#options.token);
    this.#stopWakeUps = this.#options.wakeUps(() => this.#wake());
    this.#schedule();
  }

  get token(): TokenSource {
    return this.#token;
  }

  /** Drops the link like a cut cable and comes back the ordinary way. */
  drop(reason: string): void {
    if (this.#link) this.#ended({ code: 1006, reason });
  }

  /** Ends everything. */
  close(error?: CodedException, details: StateDetails = {}): void {
    if (this.#state === 'closed') return;
    this.#release(true);
    this.#cancelAttempt?.();
    this.#cancelSuspend?.();
    this.#stopWakeUps?.();
    this.failures = 0;
    this.#state = 'closed';
    this.#host.onClosed(error);
    this.#host.onState('closed', details);
    if (error) this.#host.onError(error);
  }

  #become(state: ClientState, details: StateDetails = {}): void {
    // While suspended, attempts come and go without a change of state.
    if (this.#state === 'suspended' && (state === 'connecting' || state === 'waiting')) return;
    this.#state = state;
    this.#host.onState(state, details);
  }

  /** Plans the next attempt, not before the hub's word and the budget allow it. */
  #schedule(delayMs = 0, details: StateDetails = {}): void {
    const { clock, backoff } = this.#options;
    const now = clock.now();
    const wait = Math.max(delayMs, this.#notBefore - now, backoff.waitMs(now));
    const current = ++this.#current;
    this.#cancelAttempt?.();
    this.#cancelAttempt = wait > 0 ? clock.after(wait, () => void this.#attempt(current)) : undefined;
    if (wait > 0) this.#become('waiting', { ...details, delayMs: wait });
    else void this.#attempt(current);
  }

  /** The device is back: the wait is cut short. */
  #wake(): void {
    if (this.#cancelAttempt) {
      this.#choice.back();
      this.#schedule();
    } else if (this.#openedAt !== undefined) {
      // A socket tells nothing while its network is gone: a question that the hub always answers does.
      this.#link?.send('{"id":"wake","event":"$cancel","data":{"id":0}}');
      this.#watchdog.expect(WAKE_MS);
    }
  }

  async #attempt(current: number): Promise<void> {
    const { clock, backoff, connectTimeoutMs } = this.#options;
    this.#cancelAttempt = undefined;
    backoff.take(clock.now());
    this.#become('connecting');
    if (current !== this.#current) return;
    const fail = (error: unknown) => {
      if (current !== this.#current) return;
      this.#host.onError(error);
      // Without a token nothing was learnt about the transport.
      this.#ended({ code: 1006, reason: errorOf(error).message }, this.#stop === tokenLimit);
    };
    const tokenLimit = clock.after(connectTimeoutMs, () => fail('No token in time'));
    this.#stop = tokenLimit;
    try {
      this.#openLink(current, await this.#token.get());
    } catch (error) {
      fail(error);
    }
  }

  #openLink(current: number, token: string | null): void {
    const { clock, connectTimeoutMs, firstByteMs, transports } = this.#options;
    const counts = () => current === this.#current;
    if (!counts() || this.#link) return;
    this.#stop?.();
    this.#sentAt = clock.now();
    const limit = (ms: number) => {
      this.#stop?.();
      this.#stop = clock.after(this.#sentAt + ms - clock.now(), () => {
        this.#ended({ code: 1006, reason: 'Not open in time' });
      });
    };
    const isLast = this.#choice.current === transports.length - 1;
    limit(isLast ? connectTimeoutMs : Math.min(firstByteMs, connectTimeoutMs));
    let isSilent = true;
    const heard = () => {
      this.#watchdog.heard();
      if (isSilent) limit(connectTimeoutMs);
      isSilent = false;
    };
    const link = this.#dial(this.#choice.current, token, this.#host.resumeChannels(), {
      onAlive: () => counts() && heard(),
      onFrame: (frame) => {
        if (!counts()) return;
        heard();
        this.#frame(frame);
      },
      onEnd: (end) => counts() && this.#ended(end),
    });
    // It may have ended while it was made.
    if (counts()) this.#link = link;
  }

  /** Makes a link and sends `$resume`, with as many channels as a frame takes: the others are subscribed once it is open. */
  #dial(transport: number, token: string | null, channels: ResumeChannels, handlers: Handlers): ClientLink {
    const { url, clock, backoff, transports } = this.#options;
    const { client, position } = this.#host;
    const link = transports[transport]!.open({
      url,
      client,
      clock,
      token,
      position,
      attempt: (fn, failures = 0, afterMs = 0) =>
        this.#pace.after(failures > 0 ? Math.max(afterMs, backoff.delayMs(failures)) : afterMs, fn),
      ...handlers,
    });
    let room = this.maxFrameBytes - byteLength(JSON.stringify([client, token])) - ENVELOPE_BYTES;
    const fitting = channels.filter((channel) => (room -= byteLength(JSON.stringify(channel))) > 0);
    const data: ResumeData = { client, channels: Object.fromEntries(fitting) };
    if (token !== null) data.token = token;
    link.send(JSON.stringify({ id: RESUME_ID, event: '$resume', data }));
    return link;
  }

  #frame(frame: IncomingFrame): void {
    const { id, event, data, channel } = frame;
    if (id === RESUME_ID) this.#resumed(frame);
    else if (id !== undefined || channel !== undefined) this.#host.onFrame(frame);
    else if (event === '$ping') this.#link?.send('{"event":"$pong"}');
    else if (event === '$connected') this.#connected(data as ConnectedData);
    else if (event === '$refresh') void this.#refresh();
    else if (event === '$disconnect') {
      const disconnect = data as DisconnectData;
      this.#ended({ ...disconnect, retryAfterMs: disconnect.delayMs ?? 0 }, true);
    } else this.#host.onFrame(frame);
  }

  #connected(data: ConnectedData): void {
    const { heartbeatMs, timeoutMs, maxFrameBytes } = data;
    this.#watchdog.watch(heartbeatMs > 0 ? heartbeatMs + timeoutMs + this.#options.heartbeatSlackMs : 0);
    if (maxFrameBytes === null || maxFrameBytes > 0) this.maxFrameBytes = maxFrameBytes ?? Infinity;
    this.#host.onConnected(data);
  }

  #resumed(frame: IncomingFrame): void {
    const { clock } = this.#options;
    const error = frame.error as ErrorBody | undefined;
    const link = this.#link;
    if (!link) return;
    if (error) {
      this.#ended(endOf(error), true);
      return;
    }
    this.#stop?.();
    this.#cancelSuspend?.();
    this.#openedAt = clock.now();
    this.latencyMs = this.#openedAt - this.#sentAt;
    this.#choice.opened(this.#openedAt);
    this.opened++;
    const current = this.#current;
    this.#become('open');
    if (current === this.#current) this.#host.onOpen(frame.data as ResumeAnswer, link);
    if (current !== this.#current) return;
    if (this.#choice.current === 0) return;
    this.#stop = clock.after(this.#nextProbeMs(), () => void this.#probe());
  }

  #nextProbeMs(): number {
    const { clock, random } = this.#options;
    return this.#choice.nextProbeMs(clock.now(), random());
  }

  /**
   * Tries the better transports by links of their own, again and again. The link in use is left only once the hub has
   * answered there.
   */
  async #probe(): Promise<void> {
    const { clock, backoff } = this.#options;
    const { target } = this.#choice;
    let link: ClientLink | undefined;
    const stop = () => {
      cancelNext();
      link?.close(true);
    };
    const cancelNext = clock.after(this.#nextProbeMs(), () => {
      stop();
      void this.#probe();
    });
    this.#stop = stop;
    backoff.take(clock.now());
    try {
      const token = await this.#token.get();
      if (this.#stop !== stop) return;
      link = this.#dial(target, token, [], {
        onAlive: () => {},
        onEnd: () => {},
        onFrame: ({ id, error }) => {
          // What is in flight must not suffer.
          if (this.#stop !== stop || id !== RESUME_ID || error !== undefined || this.#host.isBusy()) return;
          this.#release(false);
          this.#choice.current = target;
          this.#schedule();
        },
      });
    } catch {
      // The next one may do better.
    }
  }

  async #refresh(): Promise<void> {
    const current = this.#current;
    try {
      this.#token.renew();
      const token = await this.#token.get();
      if (token === null) return;
      // Without an id success says nothing, and a failure comes as `exception`.
      if (current === this.#current) this.#link?.send(JSON.stringify({ event: '$auth', data: { token } }));
    } catch (error) {
      this.#host.onError(error);
    }
  }

  /** Lets go of the link and of what belongs to it. */
  #release(goodbye: boolean): void {
    this.#current++;
    const wasOpen = this.#openedAt !== undefined;
    this.#openedAt = undefined;
    this.#link?.close(goodbye);
    this.#link = undefined;
    this.#stop?.();
    this.#stop = undefined;
    this.#watchdog.watch(0);
    if (!wasOpen) return;
    this.#suspendLater();
    this.#host.onLost();
  }

  #ended(end: LinkEnd, goodbye = false): void {
    const { clock, backoff } = this.#options;
    const now = clock.now();
    const openedAt = this.#openedAt ?? now;
    const uptimeMs = now - openedAt;
    // Where nothing came after the opening, something holds back what the hub sends.
    const worked = uptimeMs >= STABLE_MS && !(end.reason === SILENT && this.#watchdog.heardAt - openedAt < STABLE_MS);
    if (worked) {
      this.failures = 0;
      this.#token.accepted();
    }
    this.failures++;
    this.#choice.lived(uptimeMs);
    // What the hub says itself (a rotation, a deploy) shows that the transport works.
    if (!goodbye && end.code < 4000 && !worked) this.#choice.failed(this.failures);
    this.#release(goodbye);

    const details = { code: end.code, reason: end.reason };
    const next = retryAfterClose(end.code);
    const comesBack = next === 'token' ? this.#token.refused() : (end.reconnect ?? next === 'yes');
    if (!comesBack) {
      this.close(exceptionOfEnd(end), details);
      return;
    }
    this.#notBefore = now + (end.retryAfterMs ?? 0);
    this.#schedule(backoff.delayMs(this.failures), details);
  }

  #suspendLater(): void {
    const windowMs = this.#host.windowMs();
    if (windowMs === Infinity) return;
    this.#cancelSuspend = this.#options.clock.after(windowMs, () => this.#become('suspended'));
  }
}
