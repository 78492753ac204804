import type { Connector, ConnectorHost } from './connector.js';
import { Exchange } from './exchange.js';
import { SharedLink } from './shared-link.js';
import type { TabMessage } from './tab-messages.js';
import type { ClientLink, ClientTransport, LinkContext } from './transport.js';

/**
 * Links over one connection for all tabs. The tab that has a lock (Web Locks API) holds the connection, the others wait for
 * the lock: it passes to the next one as soon as the page is gone. Frames go between the tabs by a BroadcastChannel.
 */
export class SharedTransport implements ClientTransport {
  readonly name = 'shared';
  readonly #key: string;
  readonly #connect: (host: ConnectorHost) => Connector;
  readonly #wake: () => void;
  readonly #locks = navigator.locks;
  #tabs: BroadcastChannel | undefined;
  #link: SharedLink | undefined;
  #resign: (() => void) | undefined;

  /**
   * @param share - names the connection, among those of this origin to the same endpoint
   * @param connect - makes the connection
   * @param wake - cuts short the wait for the next attempt
   */
  constructor(share: string, url: URL, connect: (host: ConnectorHost) => Connector, wake: () => void) {
    this.#key = `nestjs-realtime ${url.href} ${share}`;
    this.#connect = connect;
    this.#wake = wake;
  }

  open(context: LinkContext): ClientLink {
    if (!this.#tabs) {
      this.#tabs = new BroadcastChannel(this.#key);
      this.#tabs.onmessage = ({ data }: MessageEvent<TabMessage>) => {
        this.#link?.take(data);
        if ('holder' in data && data.holder === 'open' && !this.#link?.isOpen) this.#wake();
      };
      this.#hold();
    }
    const host = { tabs: this.#tabs, locks: this.#locks, takeOver: () => this.#hold(true) };
    return (this.#link = new SharedLink(context, host));
  }

  /** The client is closed: another tab may hold the connection. */
  leave(): void {
    this.#resign?.();
    this.#tabs?.close();
    this.#tabs = this.#link = undefined;
  }

  /** Holds the connection once nobody else does; `steal`: at once, and whoever does then does no more. */
  #hold(steal = false): void {
    this.#resign?.();
    const resigned = new AbortController();
    const { signal } = resigned;
    this.#resign = () => resigned.abort();
    let exchange: Exchange | undefined;
    const hold = () =>
      new Promise<void>((resolve) => {
        exchange = new Exchange(this.#key, this.#connect, this.#locks);
        signal.addEventListener('abort', () => {
          exchange?.close();
          resolve();
        });
      });
    const done = () => {
      if (signal.aborted || !exchange) return;
      exchange.close(); // it was stolen
      this.#hold();
    };
    this.#locks.request(this.#key, steal ? { steal } : { signal }, hold).then(done, done);
  }
}
