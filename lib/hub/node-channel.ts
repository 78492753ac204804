import type { Subscriber } from './channel.js';
import { resolveDefinition, type ChannelDefinition } from './definition.js';
import type { Log } from './log.js';
import type { Publisher } from './publisher.js';
import type { Subscriptions } from './subscriptions.js';

/**
 * A channel of the nodes among themselves, without history: what is sent while a node is cut off, it never gets. Its name
 * begins with `$`, so that no peer and no application can reach it.
 */
export class NodeChannel {
  readonly #definition: ChannelDefinition;

  constructor(
    name: `$${string}`,
    private readonly publisher: Publisher,
    private readonly subscriptions: Subscriptions,
    private readonly log: Log,
  ) {
    this.#definition = resolveDefinition(name, { history: false });
  }

  /** Sends JSON text to the nodes that follow it, this one included. Rejects with `broker_unavailable` or `outcome_unknown`. */
  async send(event: string, data: string): Promise<void> {
    const { pattern, retention } = this.#definition;
    await this.publisher.publish(pattern, retention, { event, data });
  }

  /**
   * Calls back for what is sent, until the returned function is called. What it throws is logged: other nodes may be of
   * another version. Rejects with `broker_unavailable`.
   */
  follow(receive: (event: string, data: string) => void): Promise<() => void> {
    const nothing = (): void => undefined;
    const subscriber: Subscriber = {
      deliver: ({ items }) => {
        for (const { event, data } of items) {
          try {
            receive(event, data);
          } catch (error) {
            this.log.error('A message of another node could not be read', error);
          }
        }
      },
      lost: nothing,
      notify: nothing,
      advance: nothing,
    };
    return this.subscriptions.follow(this.#definition, subscriber);
  }
}
