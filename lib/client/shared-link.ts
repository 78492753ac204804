import type { Position } from '../protocol/position.js';
import { lockOf, offsetOf, type TabMessage, type ToHolder } from './tab-messages.js';
import type { ClientLink, IncomingFrame, LinkContext } from './transport.js';

/** How often a link asks whether the connection is still held. */
const ASK_MS = 15_000;
/** How long the tab that holds it may take to answer: it may be stopped by its browser, or just be busy. */
const ANSWER_MS = 4_000;
/** Own publications that are waited for, as one may be answered that never comes: of a channel that is not followed. */
const MAX_OWN = 256;

/** What a link needs of its client's share. */
export interface SharedLinkHost {
  readonly tabs: Pick<BroadcastChannel, 'postMessage'>;
  readonly locks: LockManager;
  /** Nobody holds the connection, or who does is not to be heard. */
  takeOver(): void;
}

/** A link of one tab: its frames go over the connection that one of the tabs holds. */
export class SharedLink implements ClientLink {
  readonly #name = crypto.randomUUID();
  readonly #context: LinkContext;
  readonly #host: SharedLinkHost;
  /** `$resume`: said again to whoever begins to hold the connection, until it is answered. */
  #resume: string | undefined;
  /** Gives the lock back that says that this link is there. */
  #leave: (() => void) | undefined;
  #present = false;
  #answered = false;
  #over = false;
  #cancel: (() => void) | undefined;
  /** Publishes in flight that this tab is not to receive itself: `id` → channel. */
  readonly #silent = new Map<unknown, string>();
  /** What they became, as `offset channel`. */
  readonly #own = new Set<string>();
  /** Frames of their channels, until they are answered. */
  #held: IncomingFrame[] = [];

  constructor(context: LinkContext, host: SharedLinkHost) {
    this.#context = context;
    this.#host = host;
    host.locks
      .request(lockOf(this.#name), () => {
        this.#present = true;
        if (this.#resume && !this.#over) this.#say(this.#resume);
        return this.#over ? undefined : new Promise<void>((resolve) => (this.#leave = resolve));
      })
      .catch((error: unknown) => this.#end({ code: 1006, reason: String(error) }));
  }

  send(text: string): void {
    if (!this.#resume) {
      // Without token and channels: those are subscribed to one by one.
      const { id, event } = JSON.parse(text) as { id: unknown; event: string };
      this.#resume = JSON.stringify({ id, event });
      if (this.#present) this.#say(this.#resume);
    } else this.#tell({ text: this.#withEcho(text) });
  }

  get isOpen(): boolean {
    return this.#answered && !this.#over;
  }

  close(): void {
    this.#over = true;
    this.#cancel?.();
    this.#leave?.();
  }

  /** Takes what the tabs say. */
  take(message: TabMessage): void {
    if (this.#over) return;
    if ('holder' in message) {
      if (message.holder !== 'new' || !this.#present) return;
      if (this.#answered) this.#end({ code: 1006, reason: 'Another tab holds the connection' });
      else if (this.#resume) this.#say(this.#resume);
    } else if ('to' in message && message.to.includes(this.#name)) {
      this.#cancel?.();
      this.#cancel = this.#context.clock.after(ASK_MS, () => this.#say());
      this.#context.onAlive();
      if (message.frame) this.#frame(message.frame);
      else if (message.end) this.#end(message.end);
    }
  }

  /** Says something that is answered at once. */
  #say(text?: string): void {
    this.#cancel?.();
    this.#cancel = this.#context.clock.after(ANSWER_MS, () => {
      if (this.#answered) this.#end({ code: 1006, reason: 'The tab that holds the connection is silent' });
      else this.#host.takeOver();
    });
    this.#tell(text === undefined ? {} : { text });
  }

  #tell(message: Omit<ToHolder, 'from'>): void {
    this.#host.tabs.postMessage({ from: this.#name, ...message });
  }

  #end(end: Parameters<LinkContext['onEnd']>[0]): void {
    this.close();
    this.#context.onEnd(end);
  }

  /** The hub withholds nothing from one of the tabs: a publish without echo gets one, which stays here. */
  #withEcho(text: string): string {
    if (!text.includes('"echo":false')) return text;
    const frame = JSON.parse(text) as { id: unknown; event: string; data: { channel: string; echo?: boolean } };
    // Without an answer it would not be known among what comes.
    if (frame.event !== '$publish' || frame.data.echo !== false || frame.id === undefined) return text;
    this.#silent.set(frame.id, frame.data.channel);
    frame.data.echo = true;
    return JSON.stringify(frame);
  }

  #frame(frame: IncomingFrame): void {
    this.#answered = true;
    const channel = this.#silent.get(frame.id);
    if (channel !== undefined) {
      this.#silent.delete(frame.id);
      const position = (frame.data as { position?: Position } | null | undefined)?.position;
      if (position) this.#own.add(`${offsetOf(position)} ${channel}`);
      if (this.#own.size > MAX_OWN) this.#own.delete([...this.#own][0]!);
      this.#context.onFrame(frame);
      const held = this.#held;
      this.#held = [];
      for (const next of held) this.#publication(next);
    } else this.#publication(frame);
  }

  #publication(frame: IncomingFrame): void {
    const { channel, offset, tag } = frame as { channel?: string; offset?: number; tag?: string };
    if (channel !== undefined && [...this.#silent.values()].includes(channel)) this.#held.push(frame);
    else if (this.#own.delete(`${offset} ${channel}`)) this.#context.onFrame({ channel, skipped: 1, offset, tag });
    else this.#context.onFrame(frame);
  }
}
