import { errorOf } from './failures.js';
import type { ClientLink, ClientTransport, LinkContext } from './transport.js';

/** A link over a transport whose code is being loaded: frames wait for it. */
class LazyLink implements ClientLink {
  #link: ClientLink | undefined;
  #held: string[] | undefined = [];

  constructor(load: () => Promise<ClientTransport>, context: LinkContext) {
    load()
      .then((transport) => {
        const held = this.#held;
        if (!held) return;
        this.#held = undefined;
        this.#link = transport.open(context);
        for (const text of held) this.#link.send(text);
      })
      .catch((error: unknown) => context.onEnd({ code: 1006, reason: errorOf(error).message }));
  }

  send(text: string): void {
    if (this.#link) this.#link.send(text);
    else this.#held?.push(text);
  }

  close(goodbye: boolean): void {
    this.#held = undefined;
    this.#link?.close(goodbye);
  }
}

/** Links over a transport whose code is loaded with the first link. */
export function lazyTransport(name: string, load: () => Promise<ClientTransport>): ClientTransport {
  return { name, open: (context) => new LazyLink(load, context) };
}
